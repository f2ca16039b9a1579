"""Exponential moving average of the weights: what is validated, saved as best and deployed.

``average = d * average + (1 - d) * weights`` after every optimizer step, batch-norm statistics
included.  d rises as ``decay * (1 - exp(-step / tau))`` so that the random start is forgotten.
Both constants follow the length of the run (schedule.py): an average that reaches back two thousand
steps is worth nothing in a run of three hundred.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


class ModelEma:
    """Keeps ``average``, a copy of the model that is never trained."""

    def __init__(self, model: nn.Module, *, decay: float, tau: float) -> None:
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.tau = tau
        self.updates = 0
        self._model: nn.Module | None = None
        self._pairs: list[tuple[list[Tensor], list[Tensor]]] = []

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average one step towards ``model``.  Integer state (batch-norm counters) is
        copied."""
        self.updates += 1
        share = 1.0 - self.decay * (1.0 - math.exp(-self.updates / self.tau))
        floats, counters = self._paired(model)
        torch._foreach_lerp_(*floats, share)
        if counters[0]:
            torch._foreach_copy_(*counters)

    def _paired(self, model: nn.Module) -> list[tuple[list[Tensor], list[Tensor]]]:
        """Tensors of the average with those of ``model``, floats and integers apart; looked up
        once, for a state is loaded into the tensors that are there."""
        if self._model is not model:
            pairs = list(zip(_tensors(self.average), _tensors(model), strict=True))
            floats = [pair for pair in pairs if pair[0].is_floating_point()]
            counters = [pair for pair in pairs if not pair[0].is_floating_point()]
            self._pairs = [
                ([mine for mine, _ in kind], [theirs for _, theirs in kind])
                for kind in (floats, counters)
            ]
            self._model = model
        return self._pairs

    def state_dict(self) -> dict[str, object]:
        return {"average": self.average.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.average.load_state_dict(state["average"])  # type: ignore[arg-type]
        self.updates = state["updates"]  # type: ignore[assignment]


def _tensors(model: nn.Module) -> list[Tensor]:
    return list(model.state_dict().values())
