"""The AMP sanity check: evidence, on the very model, data and device of a run, before the first
epoch.

A copy of the model runs one real batch forward and backward in float32 and in each candidate
precision, and this is compared:

- the loss (relative difference);
- the gradient of every stage of the model (finite, and the cosine with the float32 gradient);
- the boxes the model says (pixels; the 99th percentile over the points that matter most);
- the share of gradient numbers lost to zero, without and with loss scaling;
- the time of a step, and the bytes that autograd keeps for the backward pass.

Candidates share the positives that the float32 pass was assigned (the assigner ranks nearly equal
points, and a tie that falls the other way is no error of arithmetic).  The check works on a copy
and puts the random state back: the run starts exactly as if nothing had happened.

It leaves out what only many steps can show; the guard (guard.py) watches those.
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

from ...datasets.sample import Batch
from ..device import synchronize
from ..losses.detection import DetectionLoss
from ..models.detector import Detector
from ..models.head import decode_boxes
from .precision import Precision

MAX_LOSS_ERROR = 0.02
MIN_COSINE = 0.90
MAX_BOX_ERROR = 2.0
MAX_UNDERFLOW = 0.05
BACKOFFS = 12
"""Thresholds; why each is what it is stands in docs/mixed-precision.md."""


@dataclass(frozen=True)
class Trial:
    """What one precision did with the batch.

    loss_error: relative to float32.  cosine: the worst stage's, by name.  box_error: pixels.
    underflow, scaled_underflow: share of gradient numbers that are zero and should not be, without
    and with loss scaling.  scale: loss scale that gave finite gradients.  step_ms: forward, loss
    and backward.  saved_bytes: kept by autograd for the backward pass. peak_bytes: of device memory
    (CUDA).  problem: why the precision is not to be used, None where it passed.
    """

    precision: str
    loss: float
    loss_error: float
    finite: bool
    cosine: dict[str, float]
    box_error: float
    underflow: float
    scaled_underflow: float
    scale: float
    step_ms: float
    saved_bytes: int
    peak_bytes: int
    problem: str | None = None

    @property
    def worst_stage(self) -> tuple[str, float]:
        """The stage whose gradient turned most, and its cosine."""
        return min(self.cosine.items(), key=lambda item: item[1])


@dataclass(frozen=True)
class Pass:
    """Raw outcome of one forward and backward pass."""

    loss: float
    boxes: Tensor
    gradients: dict[str, Tensor]
    saved_bytes: int
    peak_bytes: int
    scale: float


class SanityCheck:
    """Measures precisions on a copy of ``model`` and one ``batch`` (on the device, as it comes from
    the loader)."""

    def __init__(self, model: Detector, criterion: DetectionLoss, batch: Batch) -> None:
        self.model, self.batch = model, batch
        self.device = batch.images.device
        self.criterion = copy.copy(criterion)
        self.criterion.frozen = {}
        self.reference: Pass | None = None

    def run(self, names: tuple[str, ...]) -> list[Trial]:
        """One Trial for float32 and one for each name, timed in turns.  Raises torch's
        OutOfMemoryError."""
        with untouched(self.device):
            passes = {name: self._measure(name) for name in ("fp32", *names)}
            self.reference = passes["fp32"]
            unscaled = {name: self._measure(name, scale=1.0) for name in names if name == "fp16"}
            times = self._time(("fp32", *names))
        return [self._trial(name, passes[name], unscaled.get(name), times[name]) for name in passes]

    def _measure(self, name: str, scale: float | None = None) -> Pass:
        """A full pass; fp16 looks for a loss scale that keeps the gradients finite, as a scaler
        would."""
        scale = scale or (2.0**16 if name == "fp16" else 1.0)
        for _ in range(BACKOFFS):
            result = self._pass(name, scale)
            if name != "fp16" or scale <= 1.0 or _all_finite(result.gradients):
                break
            scale /= 4.0
        return result

    def _pass(self, name: str, scale: float) -> Pass:
        model = copy.deepcopy(self.model).train()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else 0
        with count_saved_bytes(model) as saved:
            outputs, loss = self._forward(model, name)
        (loss * scale).backward()
        peak = (
            torch.cuda.max_memory_allocated(self.device) - before
            if self.device.type == "cuda"
            else 0
        )
        gradients = {
            stage: torch.cat(
                [p.grad.flatten().float() / scale for p in part.parameters() if p.grad is not None]
            )
            for stage, part in model.stages.items()
            if any(p.grad is not None for p in part.parameters())
        }
        return Pass(loss.item(), self._boxes(outputs), gradients, saved.total, peak, scale)

    def _forward(self, model: nn.Module, name: str) -> tuple[dict, Tensor]:
        with Precision(name, self.device.type, "checked").autocast():
            outputs = model(self.batch.images)
        return outputs, self.criterion(outputs, self.batch).total

    def _boxes(self, outputs: dict) -> Tensor:
        """Decoded boxes at the points that answer for an object, [N,4]."""
        name, predictions = next(iter(outputs.items()))
        positives = self.criterion.frozen[name]  # type: ignore[index]
        return decode_boxes(predictions).detach()[positives.image, positives.point]

    def _time(self, names: tuple[str, ...], rounds: int = 2) -> dict[str, float]:
        """Milliseconds of forward, loss and backward: the best of ``rounds``, in turns, so that
        load falls on all."""
        model = copy.deepcopy(self.model).train()
        best = dict.fromkeys(names, math.inf)
        for _ in range(rounds):
            for name in names:
                synchronize(self.device)
                started = time.perf_counter()
                self._forward(model, name)[1].backward()
                synchronize(self.device)
                best[name] = min(best[name], (time.perf_counter() - started) * 1000)
                model.zero_grad(set_to_none=True)
        return best

    def _trial(self, name: str, result: Pass, unscaled: Pass | None, step_ms: float) -> Trial:
        reference = self.reference
        assert reference is not None
        trial = Trial(
            precision=name,
            loss=result.loss,
            loss_error=abs(result.loss - reference.loss) / max(abs(reference.loss), 1e-12),
            finite=math.isfinite(result.loss) and _all_finite(result.gradients),
            cosine={s: _cosine(g, reference.gradients[s]) for s, g in result.gradients.items()},
            box_error=_box_error(result.boxes, reference.boxes),
            underflow=_underflow((unscaled or result).gradients, reference.gradients),
            scaled_underflow=_underflow(result.gradients, reference.gradients),
            scale=result.scale,
            step_ms=step_ms,
            saved_bytes=result.saved_bytes,
            peak_bytes=result.peak_bytes,
        )
        return replace(trial, problem=find_problem(trial))


def find_problem(trial: Trial) -> str | None:
    """The first threshold that a trial fails, in words; None where it passes all."""
    if not trial.finite:
        return "loss or gradients are not finite"
    if trial.loss_error > MAX_LOSS_ERROR:
        return f"the loss differs by {trial.loss_error:.1%} (at most {MAX_LOSS_ERROR:.0%})"
    stage, cosine = trial.worst_stage
    if cosine < MIN_COSINE:
        return (
            f"the gradient of {stage} points elsewhere (cosine {cosine:.3f}, at least {MIN_COSINE})"
        )
    if trial.box_error > MAX_BOX_ERROR:
        return f"boxes move by {trial.box_error:.1f} pixels (at most {MAX_BOX_ERROR})"
    if trial.scaled_underflow > MAX_UNDERFLOW:
        return f"{trial.scaled_underflow:.1%} of the gradient is lost to zero (at most {MAX_UNDERFLOW:.0%})"
    return None


class SavedBytes:
    """Sum of the storages that autograd kept."""

    def __init__(self) -> None:
        self.total = 0


@contextmanager
def count_saved_bytes(model: nn.Module) -> Iterator[SavedBytes]:
    """Count the bytes that autograd saves for the backward pass inside the context, each storage
    once and without the parameters themselves, which are there anyway."""
    counted, saved = {p.untyped_storage().data_ptr() for p in model.parameters()}, SavedBytes()
    kept: list[
        Tensor
    ] = []  # a freed storage's address may be given out again: hold them until the count is done

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in counted:
            counted.add(storage.data_ptr())
            saved.total += storage.nbytes()
            kept.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


@contextmanager
def untouched(device: torch.device) -> Iterator[None]:
    """Random states and the CUDA memory pool are afterwards as before."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        yield
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _all_finite(gradients: dict[str, Tensor]) -> bool:
    return all(bool(g.isfinite().all()) for g in gradients.values())


def _cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of two flat gradients; 1 where both are zero, 0 where one alone is, or anything is not
    finite."""
    norms = a.norm() * b.norm()
    if not norms.isfinite():
        return 0.0
    if norms == 0:
        return 1.0 if a.norm() == b.norm() else 0.0
    return (a @ b / norms).item()


def _underflow(found: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
    """Share of the numbers that float32 has and ``found`` lost to zero."""
    lost = sum(int(((found[s] == 0) & (g != 0)).sum()) for s, g in reference.items())
    return lost / max(sum(int((g != 0).sum()) for g in reference.values()), 1)


def _box_error(found: Tensor, reference: Tensor) -> float:
    """99th percentile of the distance of box sides in pixels; 0 where there is no object in the
    batch."""
    if not len(reference):
        return 0.0
    errors = (found - reference).abs().amax(1)
    return math.inf if not errors.isfinite().all() else errors.quantile(0.99).item()
