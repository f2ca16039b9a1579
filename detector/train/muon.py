"""MuSGD: every weight matrix takes an orthogonalized momentum step (Muon) and a plain SGD step; all
else SGD.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by
the nearest semi-orthogonal matrix, so that every direction moves alike; convolutions are matrices
[out, in*k*k].  The Newton-Schulz iteration with (3.4445, -4.7750, 2.0315) needs only matrix
products.  Matrices of one shape are stacked and multiplied in one batched product: a detector has
hundreds of small ones, which cost more than the forward pass if they are multiplied one by one.

With ``every`` = n a matrix takes its orthogonalized step in one of n updates, n times as long, and
the matrices take turns: the momentum hardly turns from one update to the next, and the iteration is
the most expensive part of an update.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class MuSGD(torch.optim.Optimizer):
    """SGD with Nesterov momentum, plus a Muon step in parameter groups with ``muon > 0``.

    lr: of the whole step.  muon: share of the orthogonalized step, sgd: share of the SGD step.
    weight_decay acts in the SGD step (and, decoupled, where the SGD step is switched off).
    every: updates between two orthogonalized steps of a matrix.  product_dtype: of the products
    that orthogonalize; it belongs to the device and is no part of the saved state.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        muon: float = 0.0,
        sgd: float = 1.0,
        every: int = 1,
        product_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.product_dtype = product_dtype
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "muon": muon,
            "sgd": sgd,
            "every": every,
            "turn": 0,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient; gradients are overwritten."""
        if closure is not None:
            raise ValueError("MuSGD takes no closure")
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            if group["muon"] > 0:  # from the raw gradients, before either step moves the weights
                moved, steps = self._orthogonal_steps(params, grads, group)
            self._sgd_step(params, grads, group)
            if group["muon"] > 0 and moved:
                length = group["lr"] * group["muon"] * group["every"]
                torch._foreach_add_(moved, steps, alpha=-length)

    def _sgd_step(self, params: list[Tensor], grads: list[Any], group: dict[str, Any]) -> None:
        if group["sgd"] == 0:
            torch._foreach_mul_(params, 1.0 - group["lr"] * group["weight_decay"])
            return
        momentum = group["momentum"]
        if group["weight_decay"]:
            torch._foreach_add_(grads, params, alpha=group["weight_decay"])
        buffers = self._buffers(params, "sgd_momentum")
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, grads)
        torch._foreach_add_(grads, buffers, alpha=momentum)
        torch._foreach_add_(params, grads, alpha=-group["lr"] * group["sgd"])

    def _orthogonal_steps(
        self, params: list[Tensor], grads: list[Any], group: dict[str, Any]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The matrices whose turn it is, and the step of each.  Every momentum is updated."""
        buffers = self._buffers(params, "muon_momentum")
        torch._foreach_lerp_(buffers, grads, 1.0 - group["momentum"])
        turns = turns_of([matrix_shape(p) for p in params], group["every"])
        now = [i for i, turn in enumerate(turns) if turn == group["turn"]]
        group["turn"] = (group["turn"] + 1) % group["every"]
        if not now:  # fewer shapes than turns
            return [], []
        nesterov = torch._foreach_lerp(
            [grads[i] for i in now], [buffers[i] for i in now], group["momentum"]
        )
        return [params[i] for i in now], orthogonalize_all(list(nesterov), self.product_dtype)

    def _buffers(self, params: list[Tensor], name: str) -> list[Tensor]:
        for p in params:
            if name not in self.state[p]:
                self.state[p][name] = torch.zeros_like(p)
        return [self.state[p][name] for p in params]


def matrix_shape(tensor: Tensor) -> tuple[int, int]:
    """Rows and columns of a tensor [out, ...] as a matrix [out, rest]."""
    return tensor.shape[0], tensor.numel() // tensor.shape[0]


def turns_of(shapes: list[tuple[int, int]], every: int) -> list[int]:
    """Which of ``every`` turns each matrix takes: the turns cost about alike, and matrices of one
    shape stay together, for they are iterated in one product."""
    costs: dict[tuple[int, int], int] = defaultdict(int)
    for rows, columns in shapes:
        costs[rows, columns] += min(rows, columns) ** 2 * max(rows, columns)
    loads, turns = [0] * every, {}
    for shape in sorted(costs, key=lambda shape: (-costs[shape], shape)):
        turns[shape] = loads.index(min(loads))
        loads[turns[shape]] += costs[shape]
    return [turns[shape] for shape in shapes]


def orthogonalize_all(
    tensors: list[Tensor], dtype: torch.dtype = torch.float32, *, padded: bool | None = None
) -> list[Tensor]:
    """Each tensor [out, ...], taken as a matrix [out, rest], replaced by its nearest
    semi-orthogonal matrix times sqrt(max(1, out / rest)), in the tensor's shape.

    dtype: of the products.  padded: matrices of similar shapes share a stack that is filled up with
    zeros, which the iteration keeps; None does so on all devices but the CPU, where fewer launches
    are worth more than the products of zeros cost.
    """
    if padded is None:
        padded = tensors[0].device.type != "cpu"
    shapes = [matrix_shape(tensor) for tensor in tensors]
    stacks: dict[Any, list[int]] = defaultdict(list)
    for i, shape in enumerate(shapes):
        stacks[(min(shape) - 1).bit_length() if padded else shape].append(i)
    result = list(tensors)
    for members in stacks.values():
        own = [tensors[i] for i in members]
        if padded:
            found = _orthogonalize_padded(own, dtype)
        else:
            matrices = torch.stack([tensor.reshape(shapes[members[0]]) for tensor in own])
            found = list(newton_schulz(matrices, dtype).unbind())
        for i, matrix in zip(members, found, strict=True):
            result[i] = matrix.view(tensors[i].shape)
    torch._foreach_mul_(result, [max(1.0, rows / columns) ** 0.5 for rows, columns in shapes])
    return result


def _orthogonalize_padded(tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Orthogonalize matrices of several shapes in one stack, each with its short side first."""
    short = max(min(matrix_shape(tensor)) for tensor in tensors)
    long = max(max(matrix_shape(tensor)) for tensor in tensors)
    stack = tensors[0].new_zeros(len(tensors), short, long)
    torch._foreach_copy_(_slots(stack, tensors), tensors)
    return _slots(newton_schulz(stack, dtype), tensors)


def _slots(stack: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """The part of each padded matrix that belongs to a tensor, as a view in the tensor's shape."""
    slots = []
    for matrix, tensor in zip(stack.unbind(), tensors, strict=True):
        rows, columns = matrix_shape(tensor)
        tall = rows > columns
        part = matrix[:columns, :rows].T if tall else matrix[:rows, :columns]
        slots.append(part.view(tensor.shape))
    return slots


def newton_schulz(
    matrices: Tensor, dtype: torch.dtype = torch.float32, iterations: int = ITERATIONS
) -> Tensor:
    """[N, rows, columns] -> nearly orthogonal [N, rows, columns] float32: singular values land in
    about 0.7..1.2.

    dtype: of the products; the iteration tolerates bfloat16 by design.
    """
    a, b, c = COEFFICIENTS
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.to(dtype)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    for _ in range(iterations):
        gram = x @ x.transpose(1, 2)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b G + c G^2
        x = torch.baddbmm(x, polynomial, x, beta=a)  # (a + b G + c G^2) x, rounded once
    if tall:
        x = x.transpose(1, 2)
    return x.float()
