"""Load a Detector from a checkpoint of det or of another project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ...datasets.images.image import CENTER, CORNER
from ...files.counted import counted
from ...weights.checkpoint import CheckpointError, Meta, is_state, load_state, load_weights
from ...weights.training_state import WEIGHTS, check_state
from ..models.detector import Detector
from ..models.float32_stages import keep_in_float32
from ..options.names import FOREIGN
from ..run.folder import LAST
from .adopt import adopt
from .rebuild import described, read_state_meta, rebuild


def restore(path: Path) -> tuple[Detector, Meta]:
    """The detector of a checkpoint, and its Meta, always with an architecture.

    path: a ``.safetensors`` of det, the training state of a run (its averaged weights), or a
    ``.pt`` or ``.pth`` of a project that can be imported.
    Raises CheckpointError where the file is damaged or its tensors are not those of the model it
    names, ImportFailed where a file of another project cannot be read.
    """
    if path.suffix in FOREIGN and not is_state(path):
        model, meta = adopt(path)
    else:
        if path.suffix in FOREIGN:
            state = load_state(path)
            check_state(state, path, WEIGHTS)
            meta = read_state_meta(state, path)
            tensors = state["ema"]["average"] if state["ema"] else state["model"]
        else:
            tensors, meta = load_weights(path)
            meta = described(meta, tensors, path)
        assert meta.architecture is not None
        model = rebuild(meta.architecture, tensors, path, meta.quantization)
    check_finite(model.state_dict(), path)
    model.letterbox = letterbox_of(meta, model.letterbox, path)
    if unknown := [name for name in meta.fp32_stages if name not in model.stages]:
        raise CheckpointError(
            f"{path}: fp32_stages names {unknown[0][:60]!r}, and {meta.model} has no such stage: "
            "the file is damaged; use another copy"
        )
    keep_in_float32(model, meta.fp32_stages)
    return model, meta


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError for weights that are NaN or infinite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            count = int((~tensor.isfinite()).sum())
            raise CheckpointError(
                f"{path}: {counted(count, 'value')} of {name} are NaN or infinite: the training "
                "that wrote it had diverged, or it is damaged; use another checkpoint"
            )


def letterbox_of(meta: Meta, usual: str, path: Path = LAST) -> str:
    """Where the checkpoint ``path`` wants the image in its input; ``usual`` if it is silent."""
    wanted = meta.preprocess.get("letterbox", usual)
    if wanted not in (CENTER, CORNER):
        raise CheckpointError(
            f"{path}: a checkpoint of {meta.model} wants the letterbox {wanted!r}: known are "
            f"{CENTER} and {CORNER}; update yolodet"
        )
    return str(wanted)
