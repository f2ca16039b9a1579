"""What a file says about a model, and its tensors -> the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ...weights.architecture import Architecture, ArchitectureError
from ...weights.checkpoint import CheckpointError, Meta
from ..models.build import architecture_from, build_from
from ..models.detector import Detector


def described(meta: Meta, tensors: Mapping[str, Tensor], path: Path) -> Meta:
    """``meta`` with its architecture; that of a checkpoint of schema 1 is read from its tensors.

    Raises CheckpointError where there is no such model.
    """
    if meta.architecture is not None:
        return meta
    try:
        found = architecture_from(meta.model, meta.num_classes, tensors)
    except (ArchitectureError, ValueError) as error:
        raise CheckpointError(f"{path} describes no model that can be built: {error}") from error
    return replace(meta, architecture=found)


def read_state_meta(state: Mapping[str, Any], path: Path) -> Meta:
    """What a training state says about its run, with the architecture.  Raises CheckpointError."""
    return described(Meta.from_dict(state["meta"], path), state["model"], path)


def rebuild(architecture: Architecture, tensors: Mapping[str, Tensor], path: Path) -> Detector:
    """The model that a file holds.  Raises CheckpointError where its tensors are not those of the
    architecture, or no such model can be built."""
    try:
        model = build_from(architecture)
        model.load_state_dict(tensors)
    except ArchitectureError as error:
        raise CheckpointError(f"{path} describes no model that can be built: {error}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"{path} does not hold a whole {architecture.name} ({reason})"
        ) from error
    return model
