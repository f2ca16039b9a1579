"""A checkpoint of another project -> a Detector and a Meta as one of ours has.

``weights.importers`` reads the file and renames its tensors; here they get a model.  A branch of
the head that the file lacks is taken off the model, so that nobody reads fresh weights by mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ...datasets.sets.description import read_description
from ...datasets.sets.locate import BUILT_IN
from ...weights.checkpoint import CheckpointError, Meta, is_state, save_weights
from ...weights.describe import provenance_text
from ...weights.importers import ImportedWeights, import_checkpoint
from ..models.build import build
from ..models.detector import Detector

DEFAULT_SIZE = 640
SMALL = ("yolox_nano", "yolox_tiny")
SMALL_SIZE = 416
"""Their published weights were trained at this size."""


def adopt(path: Path) -> tuple[Detector, Meta]:
    """The detector in a ``.pt`` or ``.pth`` of another project, and what is known about it.

    Raises RefusedPickle where the file wants something called, ImportFailed where it is damaged or
    unknown, CheckpointError where it does not fit the model it says it is, or is a state of ours.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    if is_state(path):
        raise CheckpointError(
            f"{path} is the training state of a run: go on with resume={path}, "
            "or use the best.safetensors beside it"
        )
    found = import_checkpoint(path)
    model = build(found.name, found.num_classes, found.class_width)
    fill(model, found.tensors, path)
    return model, _meta(found, model)


def fill(model: Detector, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict that may lack whole branches of the head: those are dropped.

    Raises CheckpointError where anything else is missing, left over or of another shape.
    """
    absent = [b for b in model.branches if not any(k.startswith(f"head.{b}.") for k in tensors)]
    if absent and len(absent) < len(model.branches):
        model.drop(absent)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{path} does not hold a whole {model.name} ({reason})") from error


def convert(
    source: Path,
    target: Path,
    *,
    expected: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> Meta:
    """Write another project's checkpoint as one of ours; returns what it says about itself.

    expected: the model that it must be.  about: fields of Meta that are known better than the file
    knows them.  Raises what ``adopt`` raises, CheckpointError for another model, OSError where
    ``target`` can not be written.
    """
    model, meta = adopt(source)
    if expected not in (None, meta.model):
        raise CheckpointError(f"{source} holds a {meta.model}, not a {expected}")
    meta = replace(meta, **(about or {}))
    save_weights(target, model.state_dict(), meta)
    return meta


def _meta(found: ImportedWeights, model: Detector) -> Meta:
    small = found.name in SMALL
    return Meta(
        model=found.name,
        class_names=found.class_names or default_names(found.num_classes),
        image_size=SMALL_SIZE if small else DEFAULT_SIZE,
        strides=model.strides,
        precision="fp32",
        class_width=found.class_width,
        licence=found.licence,
        provenance=provenance_text(found.provenance),
        preprocess=dict(found.preprocess),
    )


def default_names(num_classes: int) -> tuple[str, ...]:
    """Names for a file that has none: COCO's for 80 classes, else numbers."""
    if num_classes == 80:
        return read_description(BUILT_IN / "coco8.yaml", _silent).class_names
    return tuple(f"class{number}" for number in range(num_classes))


def _silent(text: str) -> None:
    """Remarks on our own YAML are for nobody."""
