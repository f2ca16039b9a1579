"""The formats that det can write, as facts: no torch and no other package is imported here.

One row per format.  What writes, reads and runs it is the module of the same name in this folder
(``writers.py``); ``docs/export.md`` shows the table to users.  A new format is a row here, a module
with ``write``, ``read_about`` and ``open_file``, and a row in ``writers.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ...files.errors import DetError


class ExportError(DetError):
    """A model that cannot be written in a format, or a file of one that cannot be read."""


class MissingPackage(ExportError):
    """A format whose packages are not installed."""

    exit_code = 2


FULL, WEIGHTS, DYNAMIC = "int8", "int8-weights", "int8-dynamic"
"""Precisions of int8=True (weights and what layers compute), int8=weights and int8=dynamic."""
MINMAX, ENTROPY, PERCENTILE = "minmax", "entropy", "percentile"
"""Ways to find what 8 bits are spread over."""


@dataclass(frozen=True)
class Format:
    """Facts of one format.

    runtime: what runs the file, for people.  suffix: of the file.  parts: suffixes of files that
    belong to it and lie beside it under its name.  folder: ending of the name of a folder that
    holds these files, which is how the format is written unless ``output=`` names a file.  run_by:
    import names needed to read and run it; written_by: what is needed beside them to write it;
    extra: what of yolodet installs all of them, None where torch is enough.  half_on: kinds of
    device for which half=True is right (docs/export.md says why).  int8: the kinds of quantization
    that it can be written in; calibrations: how its ranges can be found.  dynamic: whether a file
    may take any batch and size.  raw_only: its converter lacks what choosing detections needs.
    system: the one it can be run on, as sys.platform names it.  run_here: whether the tests of this
    project run it.
    """

    name: str
    runtime: str
    suffix: str
    run_by: tuple[str, ...] = ()
    written_by: tuple[str, ...] = ()
    extra: str | None = None
    parts: tuple[str, ...] = ()
    folder: str | None = None
    half_on: tuple[str, ...] = ()
    int8: tuple[str, ...] = ()
    calibrations: tuple[str, ...] = (MINMAX, ENTROPY, PERCENTILE)
    dynamic: bool = True
    raw_only: bool = False
    system: str | None = None
    run_here: bool = True

    @property
    def packages(self) -> tuple[str, ...]:
        """What is needed to write it, which includes running it: each file is proven."""
        return (*self.run_by, *self.written_by)

    def is_folder(self, path: Path) -> bool:
        """Whether this is, or would be, the folder of such a file."""
        return self.folder is not None and (path.name.endswith(self.folder) or path.is_dir())

    def main_file(self, path: Path) -> Path:
        """``path``, or the file in this folder.  Raises ExportError where it has not just one."""
        if not self.is_folder(path):
            return path
        found = sorted(path.glob(f"*{self.suffix}"))
        if len(found) != 1:
            raise ExportError(
                f"{path}: expected one {self.suffix} in this folder, not {len(found)}"
            )
        return found[0]

    def files(self, path: Path) -> list[Path]:
        """What belongs to ``path``, itself last: it is placed when the rest is there."""
        if self.is_folder(path):
            return [path]
        return [*(path.with_suffix(part) for part in self.parts), path]


_ONNX = ("onnx", "onnxscript")

FORMATS = {
    row.name: row
    for row in (
        Format(
            "onnx", "ONNX Runtime", ".onnx", ("onnx", "onnxruntime"), ("onnxscript",), "export",
            half_on=("cpu", "cuda"), int8=(FULL, WEIGHTS),
        ),
        Format("torchscript", "libtorch", ".torchscript", half_on=("cuda",)),
        Format(
            "torch_export", "torch.export", ".pt2", half_on=("cuda",),
            int8=(FULL, WEIGHTS, DYNAMIC), calibrations=(MINMAX,),
        ),
        Format(
            "openvino", "OpenVINO", ".xml", ("openvino",), (*_ONNX, "onnxruntime"), "openvino",
            parts=(".bin",), folder="_openvino_model", half_on=("cpu",), int8=(FULL,),
        ),
        Format(
            "tflite", "LiteRT", ".tflite", ("ai_edge_litert",),
            ("litert_torch", "litert_quantizer"),
            "tflite", half_on=("cpu",), int8=(FULL, WEIGHTS, DYNAMIC),
            calibrations=(MINMAX,), dynamic=False,
        ),
        Format(
            "coreml", "Core ML", ".mlpackage", ("coremltools",), (), "coreml",
            half_on=("cpu",), dynamic=False, raw_only=True, system="darwin", run_here=False,
        ),
        Format(
            "tensorrt", "TensorRT", ".engine", ("tensorrt",), _ONNX, "tensorrt",
            half_on=("cuda",), dynamic=False, run_here=False,
        ),
    )
}  # fmt: skip
"""Name -> facts, in the order of the help."""


def format_of(path: str | Path) -> Format | None:
    """The format of an exported file or folder by its name; None for checkpoints and all else."""
    suffix, name = Path(path).suffix, Path(path).name
    for row in FORMATS.values():
        if suffix == row.suffix or (row.folder is not None and name.endswith(row.folder)):
            return row
    return None


def missing_packages(row: Format, *, to_run: bool = False) -> list[str]:
    """Which packages for writing a format (to_run: only running it) are not installed; none of them
    is imported."""
    return [name for name in (row.run_by if to_run else row.packages) if find_spec(name) is None]


def require(row: Format, *, to_run: bool = False) -> None:
    """Raise MissingPackage, which names the extra, where a package for writing a format (to_run:
    only running it) is missing."""
    if missing := missing_packages(row, to_run=to_run):
        raise MissingPackage(
            f"format={row.name} needs {', '.join(missing)}, which is not installed: "
            f"pip install 'yolodet[{row.extra}]'"
        )
