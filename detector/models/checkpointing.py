"""Activation checkpointing: a stage keeps its inputs only and is computed again in the backward
pass (Chen et al. 2016, arXiv 1604.06174).

The results are the same bits.  Random numbers are drawn again from the saved state, autocast is as
it was in the forward pass, and the second pass leaves the running statistics of batch norms alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .detector import Detector
from .float32_stages import Float32


class Checkpointed:
    """The ``forward`` of a stage in training; elsewhere the stage computes as it always does.

    It lies on the stage as an attribute, so names of parameters stay, and copies of the stage get
    a copy of it.
    """

    def __init__(self, stage: nn.Module) -> None:
        self.stage = stage

    def __call__(self, *inputs: Any) -> Any:
        plain = type(self.stage).forward
        if not (self.stage.training and torch.is_grad_enabled()):
            return plain(self.stage, *inputs)

        def contexts() -> tuple[Any, Any]:
            return contextlib.nullcontext(), still_statistics(self.stage)

        return checkpoint(plain, self.stage, *inputs, use_reentrant=False, context_fn=contexts)


@contextlib.contextmanager
def still_statistics(stage: nn.Module) -> Iterator[None]:
    """Batch norms update copies of their statistics while the context lasts.  (Without any
    statistics autograd would keep fewer tensors than in the forward pass, which is an error.)"""
    norms = [module for module in stage.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [dict(norm.named_buffers()) for norm in norms]
    for norm, buffers in zip(norms, kept, strict=True):
        for name, buffer in buffers.items():
            setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, buffer in buffers.items():
                setattr(norm, name, buffer)


def checkpoint_stages(model: Detector, names: Sequence[str]) -> None:
    """Compute the stages ``names`` again in the backward pass from now on, in place."""
    stages = model.stages
    for name in names:
        stages[name].forward = Checkpointed(stages[name])


def checkpointed_stages(model: Detector) -> list[str]:
    """The stages that are computed again in the backward pass."""
    found = []
    for name, stage in model.stages.items():
        forward = stage.forward
        if isinstance(forward.inner if isinstance(forward, Float32) else forward, Checkpointed):
            found.append(name)
    return found
