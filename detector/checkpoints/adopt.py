"""Import a checkpoint of another project as a Detector and its Meta.

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
    """The detector in a ``.pt`` or ``.pth`` of another project, and its Meta.

    Raises RefusedPickle if the file wants to run code, ImportFailed if it is damaged or of an
    unknown kind, CheckpointError if its tensors do not fit its model, or for a state of det.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    if is_state(path):
        raise CheckpointError(
            f"{path} is the training state of a run: continue it with resume={path}, "
            "or use best.safetensors next to it"
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
    """Convert another project's checkpoint to one of det; returns its Meta.

    expected: name of the model that it must hold.  about: fields of Meta to set.  Raises what
    ``adopt`` raises, CheckpointError for another model, OSError if
    ``target`` cannot be written.
    """
    model, meta = adopt(source)
    if expected not in (None, meta.model):
        raise CheckpointError(f"{source} holds a {meta.model}, not a {expected}")
    meta = replace(meta, **(about or {}))
    save_weights(target, model.state_dict(), meta)
    return meta


def _meta(found: ImportedWeights) -> Meta:
    return Meta(
        model=found.name,
        class_names=found.class_names or default_names(found.num_classes),
        image_size=usual_size(found.name),
        strides=(8, 16, 32),
        precision="fp32",
        license=found.license,
        provenance=provenance_text(found.provenance),
        preprocess=dict(found.preprocess),
    )


def usual_size(model: str) -> int:
    """Side of the input that weights of this model were trained at, where a file does not say."""
    return SMALL_SIZE if model in SMALL else DEFAULT_SIZE


def default_names(num_classes: int) -> tuple[str, ...]:
    """Class names for a file without any: COCO's for 80 classes, else numbered ones."""
    if num_classes == 80:
        return read_description(BUILT_IN / "coco8.yaml", _silent).class_names
    return tuple(f"class{number}" for number in range(num_classes))


def _silent(text: str) -> None:
    """Discard remarks on the built-in YAML."""
