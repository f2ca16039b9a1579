"""The AMP sanity check: measures precisions on the model, data and device of a run before it
starts.

One real batch goes forward and backward through a copy of the model, in float32 and in each
candidate precision.  These are compared:

- the loss (relative difference) of the whole model and of the head alone on equal features, and
  whether every gradient is finite;
- every stage by itself, on equal inputs (the reason is in probe.py): error of its output, cosine of
  its gradient with float32's, share of gradient numbers lost to zero without and with loss scaling;
- the boxes of the head on equal features, in cells of their level;
- the time of a step, and the bytes that autograd keeps for the backward pass.

All passes use the assignment of the float32 pass: the assigner ranks nearly equal points, and a
different choice between two equal ones is not an arithmetic error.  The check works on copies and
restores the random state, so the run is not affected.

Problems that only appear after many steps are left to the guard (guard.py).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...datasets.nouns import Batch
from ..losses.detection import DetectionLoss
from ..models.detector import Detector
from ..models.head import decode_boxes
from ..models.predictions import Predictions
from ..run.device import synchronize
from .precision import Precision
from .probe import Recording, StageError, count_saved_bytes, recording, replay

MAX_LOSS_ERROR = 0.10
MAX_HEAD_LOSS_ERROR = 0.01
MAX_OUTPUT_ERROR = 0.10
MIN_COSINE = 0.90
MAX_BOX_ERROR = 0.5
MAX_LOST = 0.05
FIRST_SCALE = 2.0**16
LAST_SCALE = 2.0**4
CLEAR_SPEEDUP = 1.15
"""Thresholds; docs/mixed-precision.md explains each of them."""


@dataclass(frozen=True)
class Trial:
    """The measurements of one precision.

    loss_error: relative to float32.  head_loss_error: likewise, of the head and the loss alone, on
    the features of the float32 pass.  scale: loss scale that gave finite gradients.  stages: errors
    of each stage on equal inputs.  unscaled_lost: share of gradient numbers lost without loss
    scaling. box_error: in cells (``_box_error``).  step_ms: forward, loss and backward.
    saved_bytes: kept by autograd for the backward pass.  peak_bytes: of device memory (CUDA only).
    problem: why it must not be used, or None.
    """

    precision: str
    loss: float
    loss_error: float
    head_loss_error: float
    finite: bool
    scale: float
    stages: dict[str, StageError]
    unscaled_lost: float
    box_error: float
    step_ms: float
    saved_bytes: int
    peak_bytes: int
    problem: str | None = None

    @property
    def lost(self) -> float:
        """Share of all gradient numbers that became zero although loss scaling was used."""
        return _weighted(self.stages)


@dataclass(frozen=True)
class Pass:
    """Raw results of one forward and backward pass."""

    loss: float
    finite: bool
    scale: float
    saved_bytes: int
    peak_bytes: int
    records: dict[str, Recording]


class SanityCheck:
    """Measures precisions on copies of ``model`` and one ``batch`` (on the device)."""

    def __init__(self, model: Detector, criterion: DetectionLoss, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self.device = batch.images.device
        self.criterion = copy.copy(criterion)
        self.criterion.frozen = {}

    def run(self, names: tuple[str, ...]) -> list[Trial]:
        """Trials of float32 and of each name, in this order.  Raises torch's OutOfMemoryError."""
        with preserved_state(self.device):
            reference = self._pass("fp32", 1.0)
            results = {name: self._search_scale(name) for name in names}
            times = self._time(("fp32", *names))
            trials = [self._trial("fp32", reference, reference, times["fp32"], {})]
            for name, result in results.items():
                stages = self._stages(name, reference, result.scale)
                trials.append(self._trial(name, result, reference, times[name], stages))
        return trials

    def _search_scale(self, name: str) -> Pass:
        """A pass; fp16 looks for a loss scale that keeps gradients finite, as its scaler would."""
        scale = FIRST_SCALE if name == "fp16" else 1.0
        result = self._pass(name, scale)
        while not result.finite and scale > LAST_SCALE:
            scale /= 4.0
            result = self._pass(name, scale)
        return result

    def _pass(self, name: str, scale: float) -> Pass:
        model = copy.deepcopy(self.model).train()
        cuda = self.device.type == "cuda"
        before = torch.cuda.memory_allocated(self.device) if cuda else 0
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        stages = model.stages if name == "fp32" else {}
        with recording(stages) as records, count_saved_bytes(model) as saved:
            loss = self._loss(model, name)
        (loss * scale).backward()
        for stage, record in records.items():
            if _learns(stages[stage]):
                record.take_gradients(stages[stage])
        peak = torch.cuda.max_memory_allocated(self.device) - before if cuda else 0
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        finite = all(bool(x.isfinite().all()) for x in (loss, *grads))
        return Pass(loss.item(), finite, scale, saved.total, peak, records)

    def _loss(self, model: nn.Module, name: str) -> Tensor:
        with Precision(name, self.device.type, "checked").autocast():
            outputs = model(self.batch.images)
        return self.criterion(outputs, self.batch).total

    def _stages(self, name: str, reference: Pass, scale: float) -> dict[str, StageError]:
        model = copy.deepcopy(self.model).train()
        precision = Precision(name, self.device.type, "checked")
        return {
            stage: replay(part, reference.records[stage], precision, scale)
            for stage, part in model.stages.items()
            if reference.records[stage].gradients and _learns(part)
        }

    def _heads(self, name: str, reference: Pass) -> dict[str, Predictions]:
        """Predictions of the head in a precision, from the features of the float32 pass."""
        head = copy.deepcopy(self.model.head).train()
        with torch.no_grad(), Precision(name, self.device.type, "checked").autocast():
            return {
                branch: head(branch, *reference.records[f"head.{branch}"].arguments)
                for branch in head.branches
                if f"head.{branch}" in reference.records
            }

    def _box_error(self, heads: dict[str, Predictions], reference: Pass) -> float:
        """99th percentile of the shift of a box side at positive points, in cells of the point's
        level.  For a box longer than ten cells the unit is a tenth of the box, because the same
        shift matters less for a large box."""
        worst = [0.0]
        for branch, assignment in (self.criterion.frozen or {}).items():
            positives = assignment.positives()
            if branch not in heads or not len(positives):
                continue
            found, (logits, distances) = heads[branch], reference.records[f"head.{branch}"].outputs
            exact = replace(found, logits=logits, distances=distances)
            boxes = decode_boxes(exact)[positives.image, positives.point]
            moved = decode_boxes(found)[positives.image, positives.point] - boxes
            tenth = (boxes[:, 2:] - boxes[:, :2]).amax(1) / 10
            cells = moved.abs().amax(1) / torch.maximum(found.strides[positives.point], tenth)
            worst.append(cells.quantile(0.99).item() if cells.isfinite().all() else math.inf)
        return max(worst)

    def _time(self, names: tuple[str, ...], rounds: int = 4) -> dict[str, float]:
        """Milliseconds of forward, loss and backward: the best of up to ``rounds`` interleaved
        rounds.

        One round is enough if every candidate is clearly faster than float32.  Otherwise more are
        needed, because other programs may have slowed one down.
        """
        model = copy.deepcopy(self.model).train()
        best = dict.fromkeys(names, math.inf)
        for _ in range(rounds):
            for name in names:
                synchronize(self.device)
                started = time.perf_counter()
                self._loss(model, name).backward()
                synchronize(self.device)
                best[name] = min(best[name], (time.perf_counter() - started) * 1000)
                model.zero_grad(set_to_none=True)
            if all(best[name] * CLEAR_SPEEDUP <= best[names[0]] for name in names[1:]):
                break
        return best

    def _trial(
        self, name: str, result: Pass, reference: Pass, ms: float, stages: dict[str, StageError]
    ) -> Trial:
        unscaled = self._stages(name, reference, 1.0) if result.scale != 1.0 else stages
        heads = self._heads(name, reference) if name != "fp32" else {}
        head_loss = self.criterion(heads, self.batch).total.item() if heads else reference.loss
        trial = Trial(
            precision=name,
            loss=result.loss,
            loss_error=_relative(result.loss, reference.loss),
            head_loss_error=_relative(head_loss, reference.loss),
            finite=result.finite,
            scale=result.scale,
            stages=stages,
            unscaled_lost=_weighted(unscaled),
            box_error=self._box_error(heads, reference),
            step_ms=ms,
            saved_bytes=result.saved_bytes,
            peak_bytes=result.peak_bytes,
        )
        return replace(trial, problem=find_problem(trial))


def find_problem(trial: Trial) -> str | None:
    """The first threshold that a trial fails, as text; None if it passes all.

    A stage that fails by itself is reported before its effect on the whole model.
    """
    for name, stage in trial.stages.items():
        if problem := _stage_problem(name, stage):
            return problem
    if not trial.finite:
        return "loss or gradients are not finite"
    if not trial.head_loss_error <= MAX_HEAD_LOSS_ERROR:
        return (
            f"the loss on equal features differs by {trial.head_loss_error:.1%} "
            f"(at most {MAX_HEAD_LOSS_ERROR:.0%})"
        )
    if not trial.loss_error <= MAX_LOSS_ERROR:
        return f"the loss differs by {trial.loss_error:.1%} (at most {MAX_LOSS_ERROR:.0%})"
    if not trial.box_error <= MAX_BOX_ERROR:
        return f"boxes move by {trial.box_error:.2f} cells (at most {MAX_BOX_ERROR})"
    if not trial.lost <= MAX_LOST:
        return f"{trial.lost:.1%} of the gradient is lost to zero (at most {MAX_LOST:.0%})"
    return None


def _stage_problem(name: str, stage: StageError) -> str | None:
    if not math.isfinite(stage.output):
        return f"the output of {name} is not finite"
    if stage.output > MAX_OUTPUT_ERROR:
        return f"the output of {name} is off by {stage.output:.1%} (at most {MAX_OUTPUT_ERROR:.0%})"
    if not stage.cosine >= MIN_COSINE:
        return (
            f"the gradient of {name} has another direction "
            f"(cosine {stage.cosine:.3f}, at least {MIN_COSINE})"
        )
    return None


@contextmanager
def preserved_state(device: torch.device) -> Iterator[None]:
    """Restore random states and CUDA memory statistics at the end."""
    cuda = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)


def _learns(part: nn.Module) -> bool:
    """Whether any parameter is not frozen."""
    return any(parameter.requires_grad for parameter in part.parameters())


def _relative(found: float, exact: float) -> float:
    return abs(found - exact) / max(abs(exact), 1e-12)


def _weighted(stages: dict[str, StageError]) -> float:
    count = sum(stage.count for stage in stages.values())
    return sum(stage.lost * stage.count for stage in stages.values()) / max(count, 1)
