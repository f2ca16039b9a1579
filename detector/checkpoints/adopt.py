"""A checkpoint of another project -> a Detector and a Meta as one of ours has.

``weights.importers`` reads the file and renames its tensors; here they get a model of their widths.
A branch of the head that the file lacks is not in the model, so that nobody reads fresh weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...datasets.sets.description import read_description
from ...datasets.sets.locate import BUILT_IN
from ...weights.checkpoint import CheckpointError, Meta, is_state, save_weights
from ...weights.describe import provenance_text
from ...weights.importers import ImportedWeights, import_checkpoint
from ..models.detector import Detector
from .rebuild import described, rebuild

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
    meta = described(_meta(found), found.tensors, path)
    assert meta.architecture is not None
    model = rebuild(meta.architecture, found.tensors, path)
    return model, replace(meta, strides=model.strides)


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


def _meta(found: ImportedWeights) -> Meta:
    small = found.name in SMALL
    return Meta(
        model=found.name,
        class_names=found.class_names or default_names(found.num_classes),
        image_size=SMALL_SIZE if small else DEFAULT_SIZE,
        strides=(8, 16, 32),
        precision="fp32",
        license=found.license,
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
