"""Importers of other projects' checkpoints; ``import_checkpoint`` chooses the right one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from . import ultralytics, yolov9, yolox
from .errors import ImportFailed, RefusedPickle
from .imported import ImportedWeights
from .unpickle import read_checkpoint

__all__ = ["ImportFailed", "ImportedWeights", "RefusedPickle", "import_checkpoint"]


def import_checkpoint(path: Path | str, which: str = "ema") -> ImportedWeights:
    """Read a checkpoint of Ultralytics, YOLOv9 (MIT) or YOLOX; nothing in it is executed.

    which: "ema" for the averaged weights if the file has both kinds, "raw" for the others.  Raises
    RefusedPickle if the file asks to call a function; ImportFailed if it is damaged or comes from
    another project.
    """
    path = Path(path)
    if which not in ("ema", "raw"):
        raise ValueError(f"which is {which!r}: it must be 'ema' or 'raw'")
    content = read_checkpoint(path)
    for importer in (yolov9, yolox, ultralytics):
        if importer.matches(content):
            try:
                imported = importer.convert(content, which)
            except ImportFailed as error:
                raise ImportFailed(f"{path}: {error}") from error
            except (KeyError, IndexError, TypeError) as error:
                raise ImportFailed(
                    f"{path}: a tensor is missing or has an unexpected form: {error}"
                ) from error
            return replace(imported, provenance={**imported.provenance, "file": path.name})
    raise ImportFailed(
        f"{path} is a PyTorch file of an unknown kind: det reads Ultralytics YOLO26, YOLO11 and "
        "YOLOv8, YOLOv9 of MultimediaTechLab, and YOLOX"
    )
