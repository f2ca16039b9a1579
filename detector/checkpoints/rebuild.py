"""Rebuild a model from its architecture and its tensors."""

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
from ..quantization.simulate import check_ranges, simulate


def described(meta: Meta, tensors: Mapping[str, Tensor], path: Path) -> Meta:
    """``meta`` with an architecture; for a file of schema 1 it is derived from the tensors.

    Raises CheckpointError if no such model can be built.
    """
    if meta.architecture is not None:
        return meta
    try:
        found = architecture_from(meta.model, meta.num_classes, tensors)
    except (ArchitectureError, ValueError) as error:
        raise CheckpointError(f"{path} describes no model that can be built: {error}") from error
    return replace(meta, architecture=found)


def read_state_meta(state: Mapping[str, Any], path: Path) -> Meta:
    """The Meta of a training state, with an architecture.  Raises CheckpointError."""
    return described(Meta.from_dict(state["meta"], path), state["model"], path)


def rebuild(
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    path: Path,
    quantization: str | None = None,
) -> Detector:
    """The model with its weights.  quantization: of its Meta.  Raises CheckpointError if the
    tensors do not match the architecture, or no such model can be built."""
    try:
        model = build_from(architecture)
        if quantization is not None:
            simulate(model)
        model.load_state_dict(tensors)
    except ArchitectureError as error:
        raise CheckpointError(f"{path} describes no model that can be built: {error}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"{path} does not hold a complete {architecture.name} ({reason})"
        ) from error
    check_ranges(model, path)
    return model
