"""MuSGD: every weight matrix takes an orthogonalised momentum step (Muon) and a plain SGD step; all
else SGD.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by
the nearest semi-orthogonal matrix, so that every direction moves alike; convolutions are matrices
[out, in*k*k].  The Newton-Schulz iteration with (3.4445, -4.7750, 2.0315) needs only matrix
products.  Matrices of one shape are stacked and iterated in one batched product: a detector has
hundreds of small ones, and one by one they cost more than the forward pass.

With ``every`` = n a matrix takes its orthogonalised step in one of n updates, n times as long, and
the matrices take turns: the momentum hardly turns from one update to the next, and the iteration is
the dearest part of an update.
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

    lr: of the whole step.  muon: share of the orthogonalised step, sgd: share of the SGD step.
    weight_decay acts in the SGD step (and, decoupled, where the SGD step is switched off).
    every: updates between two orthogonalised steps of a matrix.
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
    ) -> None:
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
        """One update of every parameter that has a gradient; gradients are written over, as in
        torch's own SGD."""
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
        """The matrices whose turn it is, and the step of each.  Every momentum goes on."""
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
        return [params[i] for i in now], orthogonalise_all(list(nesterov))

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


def orthogonalise_all(tensors: list[Tensor]) -> list[Tensor]:
    """Each tensor [out, ...], flattened to [out, rest], replaced by its nearest semi-orthogonal
    matrix, in the tensor's shape, times sqrt(max(1, out / rest))."""
    stacks: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, tensor in enumerate(tensors):
        stacks[matrix_shape(tensor)].append(i)
    result = list(tensors)
    for (rows, columns), members in stacks.items():
        matrices = torch.stack([tensors[i].reshape(rows, columns) for i in members])
        matrices = newton_schulz(matrices) * max(1.0, rows / columns) ** 0.5
        for i, matrix in zip(members, matrices.unbind(), strict=True):
            result[i] = matrix.view(tensors[i].shape)
    return result


def newton_schulz(matrices: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """[N, rows, columns] -> nearly orthogonal [N, rows, columns] float32: singular values land in
    about 0.7..1.2.

    In bfloat16 where products are native, which the iteration tolerates by design.
    """
    a, b, c = COEFFICIENTS
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = x.bfloat16()
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
