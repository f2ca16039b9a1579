"""Stages that compute in float32 while the rest of the model computes in half precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .detector import Detector
from .head import no_autocast


class Float32:
    """The ``forward`` of such a stage: autocast is off inside it, and inputs are cast to float32.

    It lies on the stage as an attribute, so names of parameters stay, and copies of the stage get
    a copy of it.  inner: the object that lay there before, such as ``Checkpointed``; None for the
    stage's own ``forward``.  outside: number format of the weights of the other stages where they
    are half precision, which the outputs are cast to; under autocast the outputs stay float32.
    """

    def __init__(self, stage: nn.Module, inner: Any = None) -> None:
        self.stage, self.inner = stage, inner
        self.outside: torch.dtype | None = None

    def __call__(self, *inputs: Any) -> Any:
        with no_autocast(_first(inputs)):
            found = _cast(inputs, torch.float32)
            if self.inner is None:
                outputs = type(self.stage).forward(self.stage, *found)
            else:
                outputs = self.inner(*found)
        return outputs if self.outside is None else _cast(outputs, self.outside)


def keep_in_float32(model: Detector, names: Sequence[str]) -> None:
    """Compute the stages ``names``, and no others, in float32 from now on, in place."""
    for name, stage in model.stages.items():
        inner = stage.__dict__.get("forward")
        if isinstance(inner, Float32):
            inner = inner.inner
        if name in names:
            inner = Float32(stage, inner)
        if inner is not None:
            stage.forward = inner
        else:
            stage.__dict__.pop("forward", None)


def float32_stages(model: Detector) -> tuple[str, ...]:
    """The stages that always compute in float32, in the order of the data path."""
    return tuple(n for n, part in model.stages.items() if isinstance(part.forward, Float32))


def to_dtype(model: Detector, dtype: torch.dtype) -> Detector:
    """The weights in ``dtype``, in place; those of stages that compute in float32 stay float32."""
    model.to(dtype)
    for stage in model.stages.values():
        if isinstance(stage.forward, Float32):
            stage.float()
            stage.forward.outside = dtype
    return model


def _first(value: Any) -> Tensor:
    """The first tensor of nested tuples."""
    return value if isinstance(value, Tensor) else _first(value[0])


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Nested tuples with their floating-point tensors in ``dtype``."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    return tuple(_cast(item, dtype) for item in value)
