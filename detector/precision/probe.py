"""Measurements for the AMP sanity check: the error of a stage, and what autograd keeps.

A detector with fresh batch norms is chaotic: a rounding error at the first layer grows by 10 % at
every later one, so at the head the gradients of two *correct* precisions point in different
directions.  An end-to-end comparison would reject every precision.  So each stage is measured by
itself: it gets the inputs and the output gradient of the float32 pass, and its results in the other
precision are compared with those in float32.  Then an error is an error of that stage.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .precision import Precision


@dataclass
class Recording:
    """One stage in the float32 pass: arguments, outputs and their gradients, by position.

    param_gradients: flat gradients [P] of its parameters, set by ``take_gradients``.
    """

    arguments: tuple[Any, ...] = ()
    outputs: list[Tensor] = field(default_factory=list)
    gradients: dict[int, Tensor] = field(default_factory=dict)
    param_gradients: Tensor | None = None

    def take_gradients(self, module: nn.Module) -> None:
        """Store the gradients that the backward pass left in ``module``."""
        self.param_gradients = flat_gradients(module)


@dataclass(frozen=True)
class StageError:
    """One stage in another precision, given equal inputs.

    output: relative error of the outputs.  cosine: of the parameter gradients with float32's. peak:
    largest output.  lost: share of the non-zero gradient numbers that became zero.  count: how many
    numbers are not zero in float32.
    """

    output: float
    cosine: float
    peak: float
    lost: float
    count: int


@contextmanager
def recording(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Recording]]:
    """Record arguments, outputs and output gradients of ``modules`` while the context lasts."""
    records: dict[str, Recording] = {}
    hooks = [m.register_forward_hook(_recorder(name, records)) for name, m in modules.items()]
    try:
        yield records
    finally:
        for hook in hooks:
            hook.remove()


def _recorder(name: str, records: dict[str, Recording]) -> Any:
    def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        record = records[name] = Recording(_detached(arguments), tensors_in(output))
        for i, tensor in enumerate(record.outputs):
            if tensor.requires_grad:
                tensor.register_hook(lambda grad, i=i: record.gradients.__setitem__(i, grad))
        record.outputs = [tensor.detach() for tensor in record.outputs]

    return hook


def replay(
    module: nn.Module, record: Recording, precision: Precision, scale: float = 1.0
) -> StageError:
    """Run a copy of ``module`` on the recorded inputs in ``precision``, send the recorded gradient
    back, and compare with the float32 pass."""
    reference = record.param_gradients
    assert reference is not None, "call take_gradients first"
    found, outputs = _gradients(module, record, precision, scale)
    exact = torch.cat([t.flatten() for t in record.outputs])
    mixed = torch.cat([t.flatten().float() for t in outputs])
    present = reference != 0
    return StageError(
        output=((mixed - exact).norm() / exact.norm().clamp(min=1e-12)).item(),
        cosine=cosine(found, reference),
        peak=mixed.abs().max().item(),
        lost=int((present & (found == 0)).sum()) / max(int(present.sum()), 1),
        count=int(present.sum()),
    )


def _gradients(
    module: nn.Module, record: Recording, precision: Precision, scale: float
) -> tuple[Tensor, list[Tensor]]:
    """Flat parameter gradients [P] float32 after unscaling, and the outputs."""
    module = copy.deepcopy(module)  # batch-norm statistics move in a forward pass
    with precision.autocast():
        outputs = tensors_in(module(*record.arguments))
    chosen = [i for i in record.gradients if outputs[i].requires_grad]
    torch.autograd.backward(
        [outputs[i] for i in chosen],
        [(record.gradients[i] * scale).to(outputs[i].dtype) for i in chosen],
    )
    return flat_gradients(module) / scale, [tensor.detach() for tensor in outputs]


def flat_gradients(module: nn.Module) -> Tensor:
    """Gradients [P] float32 of the parameters that require them; 0 if a parameter has none."""
    learning = [p for p in module.parameters() if p.requires_grad]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
    return torch.cat([g.flatten().float() for g in grads])


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of two flat gradients; 1 if both are zero, 0 if one is zero or not finite."""
    lengths = torch.stack((a.norm(), b.norm()))
    if not lengths.isfinite().all():
        return 0.0
    if not lengths.all():
        return 1.0 if not lengths.any() else 0.0
    return (a / lengths[0] @ (b / lengths[1])).item()  # their product may underflow


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors of an output: itself, or those of a tuple or list."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in value for tensor in tensors_in(item)]


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    return tuple(_detached(item) for item in value)


class SavedBytes:
    """Bytes of the storages that autograd kept."""

    def __init__(self) -> None:
        self.total = 0


@contextmanager
def count_saved_bytes(model: nn.Module) -> Iterator[SavedBytes]:
    """Count the bytes that autograd saves for the backward pass: each storage once, no
    parameters."""
    counted, saved = {p.untyped_storage().data_ptr() for p in model.parameters()}, SavedBytes()
    kept: list[Tensor] = []  # a freed address could be used again: keep all storages alive

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in counted:
            counted.add(storage.data_ptr())
            saved.total += storage.nbytes()
            kept.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved
