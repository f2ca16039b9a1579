"""From a checkpoint file to a Detector."""

from __future__ import annotations

from pathlib import Path

from ...weights.checkpoint import CheckpointError, Meta, load_weights
from .build import build
from .detector import Detector


def restore(path: Path) -> tuple[Detector, Meta]:
    """The detector that a ``.safetensors`` checkpoint holds, and what the file says about itself.

    Raises CheckpointError where the file is damaged or its tensors are not those of the model it
    names.
    """
    tensors, meta = load_weights(path)
    model = build(meta.model, meta.num_classes, meta.class_width)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{path} does not hold a whole {meta.model} ({reason})") from error
    return model, meta
