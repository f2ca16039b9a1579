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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...datasets.nouns import Batch
from ..losses.detection import DetectionLoss
from ..models.detector import Detector
from ..models.float32_stages import keep_in_float32
from ..models.head import decode_boxes
from ..models.predictions import Predictions
from ..run.device import synchronize
from ..run.words import labeled
from .precision import FIRST_SCALE, Precision
from .probe import Recording, StageError, count_saved_bytes, recording, replay, tensors_in

MAX_LOSS_ERROR = 0.10
MAX_HEAD_LOSS_ERROR = 0.01
MAX_OUTPUT_ERROR = 0.10
MIN_COSINE = 0.90
MAX_BOX_ERROR = 0.5
MAX_LOST = 0.05
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
    problem: why it must not be used, or None.  fp32_stages: stages that were in float32.  suspects:
    stages that may be why numbers of the whole pass are not finite.
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
    fp32_stages: tuple[str, ...] = ()
    suspects: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The precision, and which stages it leaves out."""
        return labeled(self.precision, self.fp32_stages)

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
    suspects: tuple[str, ...]


class SanityCheck:
    """Measures precisions on copies of ``model`` and one ``batch`` (on the device)."""

    def __init__(self, model: Detector, criterion: DetectionLoss, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self.device = batch.images.device
        self.criterion = copy.copy(criterion)
        self.criterion.frozen = {}

    def run(self, wanted: Mapping[str, tuple[str, ...]]) -> list[Trial]:
        """Trials of float32 and of each precision, in this order.

        wanted: precision -> stages that are in float32 all the same.  Raises torch's
        OutOfMemoryError."""
        precisions = [self._precision(*each) for each in wanted.items()]
        fp32 = self._precision("fp32")
        with preserved_state(self.device):
            reference = self._pass(fp32, 1.0)
            results = [self._search_scale(precision) for precision in precisions]
            times = self._time((fp32, *precisions))
            trials = [self._trial(fp32, reference, reference, times["fp32"], {})]
            for precision, result in zip(precisions, results, strict=True):
                stages = self._stages(precision, reference, result.scale)
                ms = times[precision.name]
                trials.append(self._trial(precision, result, reference, ms, stages))
        return trials

    def _precision(self, name: str, fp32_stages: tuple[str, ...] = ()) -> Precision:
        return Precision(name, self.device.type, "checked", fp32_stages)

    def _copy(self, precision: Precision) -> Detector:
        """A copy of the model in training mode, with the stages of ``precision`` in float32."""
        model = copy.deepcopy(self.model).train()
        keep_in_float32(model, precision.fp32_stages)
        return model

    def _search_scale(self, precision: Precision) -> Pass:
        """A pass; fp16 looks for a loss scale that keeps gradients finite, as its scaler would.  No
        scale helps a loss that is not finite: it takes the last without more passes."""
        scale = FIRST_SCALE if precision.name == "fp16" else 1.0
        result = self._pass(precision, scale)
        while not result.finite and scale > LAST_SCALE:
            if not math.isfinite(result.loss):
                return replace(result, scale=LAST_SCALE)
            scale /= 4.0
            result = self._pass(precision, scale)
        return result

    def _pass(self, precision: Precision, scale: float) -> Pass:
        model = self._copy(precision)
        cuda = self.device.type == "cuda"
        before = torch.cuda.memory_allocated(self.device) if cuda else 0
        if cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        stages = model.stages if precision.name == "fp32" else {}
        with (
            recording(stages) as records,
            watching_outputs(model.stages) as unfinite,
            count_saved_bytes(model) as saved,
        ):
            loss = self._loss(model, precision)
        (loss * scale).backward()
        for stage, record in records.items():
            if _learns(stages[stage]):
                record.take_gradients(stages[stage])
        peak = torch.cuda.max_memory_allocated(self.device) - before if cuda else 0
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        finite = all(bool(x.isfinite().all()) for x in (loss, *grads))
        suspects = () if finite else suspected(model, unfinite)
        return Pass(loss.item(), finite, scale, saved.total, peak, records, suspects)

    def _loss(self, model: nn.Module, precision: Precision) -> Tensor:
        with precision.autocast():
            outputs = model(self.batch.images)
        return self.criterion(outputs, self.batch).total

    def _stages(self, precision: Precision, reference: Pass, scale: float) -> dict[str, StageError]:
        model = self._copy(precision)
        return {
            stage: replay(part, reference.records[stage], precision, scale)
            for stage, part in model.stages.items()
            if reference.records[stage].gradients and _learns(part)
        }

    def _heads(self, precision: Precision, reference: Pass) -> dict[str, Predictions]:
        """Predictions of the head in a precision, from the features of the float32 pass."""
        head = self._copy(precision).head
        with torch.no_grad(), precision.autocast():
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

    def _time(self, precisions: tuple[Precision, ...], rounds: int = 4) -> dict[str, float]:
        """Milliseconds of forward, loss and backward by name: the best of up to ``rounds``
        interleaved rounds.

        One round is enough if every candidate is clearly faster than float32.  Otherwise more are
        needed, because other programs may have slowed one down.
        """
        model = copy.deepcopy(self.model).train()
        best = {precision.name: math.inf for precision in precisions}
        for _ in range(rounds):
            for precision in precisions:
                keep_in_float32(model, precision.fp32_stages)
                synchronize(self.device)
                started = time.perf_counter()
                self._loss(model, precision).backward()
                synchronize(self.device)
                name, took = precision.name, (time.perf_counter() - started) * 1000
                best[name] = min(best[name], took)
                model.zero_grad(set_to_none=True)
            base, *others = best.values()
            if all(other * CLEAR_SPEEDUP <= base for other in others):
                break
        return best

    def _trial(
        self,
        precision: Precision,
        result: Pass,
        reference: Pass,
        ms: float,
        stages: dict[str, StageError],
    ) -> Trial:
        name = precision.name
        unscaled = self._stages(precision, reference, 1.0) if result.scale != 1.0 else stages
        heads = self._heads(precision, reference) if name != "fp32" else {}
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
            fp32_stages=precision.fp32_stages,
            suspects=result.suspects,
        )
        return replace(trial, problem=find_problem(trial))


def find_problem(trial: Trial) -> str | None:
    """The first threshold that a trial fails, as text; None if it passes all.

    A stage that fails by itself is reported before its effect on the whole model.
    """
    for name, stage in trial.stages.items():
        if problem := stage_problem(name, stage):
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


def stage_problem(name: str, stage: StageError) -> str | None:
    """The first threshold that a stage fails by itself, as text; None if it passes all."""
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


def failing_stages(trial: Trial) -> tuple[str, ...]:
    """The stages that may be why a trial fails, so that it could pass with them in float32; none
    where the reason lies between the stages."""
    failing = [name for name, stage in trial.stages.items() if stage_problem(name, stage)]
    if not failing and not trial.finite:
        failing = list(trial.suspects)
    if not failing and trial.lost > MAX_LOST:
        failing = [name for name, stage in trial.stages.items() if stage.lost > MAX_LOST]
    wrong_head = trial.head_loss_error > MAX_HEAD_LOSS_ERROR or trial.box_error > MAX_BOX_ERROR
    if not failing and wrong_head:  # both are measured on equal features
        failing = [name for name in trial.stages if name.startswith("head.")]
    return tuple(failing)


def suspected(model: Detector, unfinite: Sequence[str]) -> tuple[str, ...]:
    """The stages to suspect after a pass whose numbers are not finite: the first of ``unfinite``,
    whose outputs are not; else the last whose gradients are not, and the one behind it, which may
    have sent them."""
    if unfinite:
        return (unfinite[0],)
    names, bad = list(model.stages), list[int]()
    for number, stage in enumerate(model.stages.values()):
        grads = [p.grad for p in stage.parameters() if p.grad is not None]
        if not all(bool(grad.isfinite().all()) for grad in grads):
            bad.append(number)
    return tuple(names[bad[-1] :][:2]) if bad else ()


@contextmanager
def watching_outputs(stages: Mapping[str, nn.Module]) -> Iterator[list[str]]:
    """A list that gets the names of stages whose outputs are not finite, as they come."""
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not all(bool(t.detach().isfinite().all()) for t in tensors_in(output)):
                found.append(name)

        return hook

    hooks = [stage.register_forward_hook(watch(name)) for name, stage in stages.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


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
