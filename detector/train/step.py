"""One batch: the same lines in every precision.

autocast forward, float32 loss, scaled backward; and when the nominal batch is full: unscale, clip,
step, update, zero, average.  An update whose gradients are not finite is skipped whole: weights,
average and batch-norm statistics stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...datasets.sample import Batch
from ..losses.detection import DetectionLoss, LossOutput
from .ema import ModelEma
from .precision import Precision


@dataclass(frozen=True)
class StepOutput:
    """loss: of this batch.  grad_norm: before clipping, None where no update was due.  skipped: an
    update was due and its gradients were not finite."""

    loss: LossOutput
    grad_norm: Tensor | None
    skipped: bool


class TrainStep:
    """Everything that one batch touches."""

    def __init__(
        self,
        model: nn.Module,
        criterion: DetectionLoss,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        *,
        ema: ModelEma | None,
        clip: float,
    ) -> None:
        self.model = model
        self.criterion = criterion
        self.optimizer = optimizer
        self.precision = precision
        self.scaler = precision.scaler()
        self.ema = ema
        self.clip = clip
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.statistics = [b for b in model.buffers() if b.is_floating_point()]

    def __call__(self, batch: Batch, *, share: float, update: bool) -> StepOutput:
        """Learn from ``batch``.  share: of this batch in the nominal one (1 without accumulation);
        update: the nominal batch is full."""
        before = [b.clone() for b in self.statistics]
        with self.precision.autocast():
            outputs = self.model(batch.images)
        loss = self.criterion(outputs, batch)
        self.scaler.scale(loss.total * share).backward()
        if not update:
            return StepOutput(loss, None, False)
        self.scaler.unscale_(self.optimizer)
        limit = self.clip if self.clip > 0 else float("inf")
        grad_norm = nn.utils.clip_grad_norm_(self.parameters, limit)
        finite = bool(grad_norm.isfinite())
        if (
            finite or self.scaler.is_enabled()
        ):  # an enabled scaler skips by itself, and must see it to back off
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if not finite:
            torch._foreach_copy_(self.statistics, before)
        elif self.ema is not None:
            self.ema.update(self.model)
        return StepOutput(loss, grad_norm, not finite)
