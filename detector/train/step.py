"""One batch: the same lines in every precision.

autocast forward, float32 loss, scaled backward; and when the nominal batch is full: unscale, clip,
step, update, zero, average.  An update whose gradients are not finite is skipped whole: weights,
average and batch-norm statistics stay as they were before the nominal batch.

A batch may go through in micro-batches, whose gradients add up as those of accumulated batches do.

With several ranks, ``forward`` sums their gradients (data_parallel.py) during the backward pass
that fills the nominal batch.  From there on every rank has the same numbers: a gradient that is not
finite on one rank is not finite on any.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...datasets.nouns import Batch
from ..losses.detection import DetectionLoss, LossOutput
from ..models.blocks import Norm, count_batch
from ..models.detector import Detector
from ..models.float32_stages import keep_in_float32
from ..precision.precision import Precision
from ..quantization.simulate import ranges_of
from ..run.ranks import ALONE, Ranks, raising_rank_lost
from .ema import ModelEma


@dataclass(frozen=True)
class StepOutput:
    """loss: of this batch, of all ranks.  grad_norm: before clipping, None where no update was due.
    skipped: the update was not done because its gradients were not finite; None where nobody looked
    (the host does not wait).  scaled: loss scaling is on."""

    loss: LossOutput
    grad_norm: Tensor | None
    skipped: bool | None
    scaled: bool


def added(losses: Sequence[LossOutput], images: Sequence[int]) -> LossOutput:
    """The loss of micro-batches as that of one batch: totals add up, parts are means per image."""
    if len(losses) == 1:
        return losses[0]
    shares = [count / sum(images) for count in images]
    parts = {
        name: torch.stack([x.parts[name] * w for x, w in zip(losses, shares, strict=True)]).sum()
        for name in losses[0].parts
    }
    total = torch.stack([each.total for each in losses]).sum()
    return LossOutput(total, parts, torch.stack([each.num_pos for each in losses]).sum())


class TrainStep:
    """Everything that one batch touches.  forward: the model as it is called in training.

    micro_batch: images of this rank per forward pass; None: the whole batch.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: DetectionLoss,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        *,
        ema: ModelEma | None,
        clip: float,
        forward: Callable[[Tensor], Any] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model = model
        self.ranks = ranks
        self.forward = model if forward is None else forward
        self.criterion = criterion
        self.optimizer = optimizer
        self.ema = ema
        self.clip = clip
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        buffers = list(model.buffers())
        floats = [b for b in buffers if b.is_floating_point()]
        counters = [b for b in buffers if not b.is_floating_point()]
        self._statistics = [
            (kind, [torch.empty_like(b) for b in kind]) for kind in (floats, counters) if kind
        ]
        called = self.forward if isinstance(self.forward, nn.Module) else model
        self._norms = [m for m in called.modules() if isinstance(m, Norm)]  # others count alone
        self._ranges = ranges_of(model)
        self._begun = self._kept = False
        self.micro_batch: int | None = None
        self.precision, self.scaler = precision, precision.scaler()
        self.use(precision)

    def use(self, precision: Precision) -> None:
        """Compute in ``precision`` from now on, with a fresh loss scale unless only its stages in
        float32 are others."""
        if precision.name != self.precision.name:
            self.scaler = precision.scaler()
        self.precision = precision
        for model in (self.model, self.ema and self.ema.average):
            if isinstance(model, Detector):
                keep_in_float32(model, precision.fp32_stages)
        if self.criterion.distillation is not None:
            self.criterion.distillation.use(precision.dtype)

    def drop_gradients(self) -> None:
        """Drop a nominal batch that is not full: its gradients, and what it would be undone to."""
        self.optimizer.zero_grad(set_to_none=True)
        self._begun = self._kept = False

    def __call__(self, batch: Batch, *, update: bool, eager: bool) -> StepOutput:
        """Learn from ``batch``.

        update: the nominal batch is full; until then gradients add up, for the loss grows with the
        number of images.  eager: look at the gradients before they are used; False leaves that to
        whoever reads the norm later.
        """
        scaled = self.scaler.is_enabled()
        if not self._kept and (eager or scaled):
            self._keep_statistics()
        if self._ranges and not self._begun:
            self._ranges.begin()
        self._begun = True
        parts = [batch] if self.micro_batch is None else batch.split(self.micro_batch)
        losses = [self._learn(part, last=update and part is parts[-1]) for part in parts]
        loss = self._of_all_ranks(added(losses, [len(part) for part in parts]))
        if not update:
            return StepOutput(loss, None, False if eager or scaled else None, scaled)
        self._average_statistics()
        if self._ranges:
            self._ranges.end()
        self.scaler.unscale_(self.optimizer)
        limit = self.clip if self.clip > 0 else float("inf")
        grad_norm = nn.utils.clip_grad_norm_(self.parameters, limit)
        finite = bool(grad_norm.isfinite()) if eager or scaled else None
        if finite is not False:
            self.scaler.step(self.optimizer)
        self.scaler.update()  # backs off where unscaling has met what is not finite
        if finite is False:
            self._restore_statistics()
        elif self.ema is not None:
            self.ema.update(self.model)
        self.drop_gradients()
        return StepOutput(loss, grad_norm, None if finite is None else not finite, scaled)

    def _learn(self, batch: Batch, *, last: bool) -> LossOutput:
        """Forward and backward.  last: of the nominal batch."""
        with self._gradient_sync(last):
            with self.precision.autocast():
                outputs = self.forward(batch.images)
            count_batch(self._norms)
            loss = self.criterion(outputs, batch)
            self.scaler.scale(loss.total).backward()
        return replace(loss, total=loss.total.detach())

    @contextlib.contextmanager
    def _gradient_sync(self, update: bool) -> Iterator[None]:
        """While gradients only accumulate, ranks do not exchange them."""
        parallel = self.forward if isinstance(self.forward, DistributedDataParallel) else None
        with (
            contextlib.nullcontext() if parallel is None else raising_rank_lost(only="gloo/|NCCL"),
            contextlib.nullcontext() if parallel is None or update else parallel.no_sync(),
        ):
            yield

    def _of_all_ranks(self, loss: LossOutput) -> LossOutput:
        """The losses of all ranks together."""
        if self.ranks.size == 1:
            return loss
        names = tuple(loss.parts)
        own = torch.stack([loss.total.detach(), *loss.parts.values()])
        total, *parts = self.ranks.sum(own).unbind()
        return replace(loss, total=total, parts=dict(zip(names, parts, strict=True)))

    def _average_statistics(self) -> None:
        """Batch-norm statistics become their mean over the ranks, in one message: each rank
        normalizes with its own images."""
        if self.ranks.size == 1:
            return
        means = [
            statistic
            for norm in self.model.modules()
            if isinstance(norm, nn.BatchNorm2d) and norm.training
            for statistic in (norm.running_mean, norm.running_var)
            if statistic is not None
        ]
        if not means:
            return
        whole = self.ranks.sum(torch.cat(means)).div_(self.ranks.size)
        torch._foreach_copy_(means, list(whole.split([len(mean) for mean in means])))

    def _keep_statistics(self) -> None:
        """Remember batch-norm statistics as they are before a nominal batch."""
        for current, kept in self._statistics:
            torch._foreach_copy_(kept, current)
        self._kept = True

    def _restore_statistics(self) -> None:
        for current, kept in self._statistics:
            torch._foreach_copy_(current, kept)
