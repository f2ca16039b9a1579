"""The guard: what happens when the loss or the gradients stop being finite during a run.

An update whose gradients are not finite is skipped completely (step.py).  A single skip is only
counted, because loss scaling needs them.  It is a failure when the loss itself is not finite, when
too many updates in a row are skipped, or when the loss scale collapses.  Then the batch is run
again on the last good weights, in the precision of the run and in float32.  If float32 is finite,
the precision is the cause: the run is rolled back to its last good state.  Where it is enough that
the stages that went wrong are in float32, it continues with these in float32, otherwise one rung
down the ladder (fp16 -> bf16 -> fp32).  If float32 fails too, the data or the learning rate is the
cause: the batch is skipped, and after MOST_BAD_BATCHES in a row the run is stopped with a report.
No NaN is written to a checkpoint.

On CUDA, reading a flag makes the host wait for the device.  There the flag stays on the device and
is read every few steps; if it is set, the state of the last reading is restored and those steps are
repeated one by one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from torch import Tensor, nn

from ...datasets.nouns import Batch
from ..losses.detection import DetectionLoss
from ..models.detector import Detector
from ..models.float32_stages import keep_in_float32
from ..precision.by_stage import ROUNDS
from ..precision.precision import Precision
from ..precision.probe import tensors_in
from ..precision.sanity import suspected
from .position import Position
from .step import StepOutput

READ_EVERY = 20
"""Steps between two readings of the flag, and between two copies of the state."""
MOST_SKIPS = 12
"""Updates skipped in a row before the precision is given up: a scaler halves 2^16 to 16 in them."""
MOST_BAD_BATCHES = 3
"""Batches in a row that are not finite even in float32 before the run is stopped."""
SMALLEST_SCALE = 1.0


@dataclass(frozen=True)
class Failure:
    """What went wrong.  part: the loss part, or ``gradient``.  layer: the first whose output was
    not finite, None if all outputs were finite.  helped: float32 handles the batch.  guilty: it
    failed again when repeated (if not, the images of another rank may be the cause).  fp32_stages:
    with these in float32 the precision handles the batch; empty if single stages do not help."""

    epoch: int
    batch: int
    precision: str
    part: str
    layer: str | None
    images: list[str]
    helped: bool
    cause: str
    guilty: bool = True
    fp32_stages: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"first at the output of {self.layer}" if self.layer else "in the backward pass"
        return (
            f"epoch {self.epoch + 1}, batch {self.batch}: {self.cause} in {self.precision}, "
            f"{self.part} {where}; images: {', '.join(self.images[:4])}"
            + (f" and {len(self.images) - 4} more" if len(self.images) > 4 else "")
        )


class Rollback(Exception):
    """Restore the last good state.  failure: None to only repeat the steps one by one."""

    def __init__(self, failure: Failure | None) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Guard:
    """Watches the steps of a run.

    save: returns the state to restore.  waits: reading a flag makes the host wait (CUDA).
    """

    def __init__(self, save: Callable[[], dict[str, Any]], *, waits: bool) -> None:
        self._save = save
        self._waits = waits
        self._state: dict[str, Any] | None = None
        self._since = 0
        self._due = True
        self._flag: Tensor | None = None
        self._window: list[tuple[Tensor, Callable[[str], Failure]]] = []
        self._careful = 0
        self.skips_in_a_row = 0
        self.bad_in_a_row = 0
        self.failures: list[Failure] = []

    @property
    def eager(self) -> bool:
        """Whether the next step must check its gradients before it uses them."""
        return not self._waits or self._careful > 0 or self.skips_in_a_row > 0

    @property
    def state(self) -> dict[str, Any]:
        """A copy of the last good state."""
        assert self._state is not None, "no step has been taken yet"
        return copy.deepcopy(self._state)

    def rewind(self) -> dict[str, Any] | None:
        """A copy of the last good state to go back to, None before the first step; what has been
        seen since is forgotten."""
        self._flag, self._window, self._due = None, [], True
        return copy.deepcopy(self._state)

    def before(self, *, boundary: bool) -> None:
        """Called before a step.  boundary: no gradients are accumulated, so the state is complete;
        it is kept every READ_EVERY steps.  Raises Rollback (see check_flag)."""
        due = self._due or self._since >= READ_EVERY
        if boundary and due and not self.skips_in_a_row:
            self.check_flag()
            self._state, self._since, self._due = keep(self._save(), self._state), 0, False
        self._since += 1
        self._careful = max(self._careful - 1, 0)

    def check_flag(self) -> None:
        """Read the flag, before a state is kept or written (what is written is also kept before
        the next step).  Raises Rollback if the flag is set."""
        bad = self._flag is not None and bool(self._flag)
        self._flag, self._due = None, True
        if bad:
            self._careful = self._since + READ_EVERY + 1
            raise Rollback(None)

    def after(
        self, output: StepOutput, scale: float, diagnose: Callable[[str], Failure]
    ) -> Failure | None:
        """Called after a step.  diagnose: finds out what failed, given the cause in words.

        Returns a failure that needs no rollback (the batch itself is bad).  Raises Rollback.
        """
        if output.skipped is None:  # not checked: remember on the device
            bad = ~output.loss.total.isfinite()
            if output.grad_norm is not None:
                bad = bad | ~output.grad_norm.isfinite()
            self._flag = bad if self._flag is None else self._flag | bad
            return None
        self._window.append((output.loss.total.detach(), diagnose))
        if output.grad_norm is None:  # the nominal batch is not full yet
            return None
        window, self._window = self._window, []
        if not output.skipped:
            self.skips_in_a_row = self.bad_in_a_row = 0
            return None
        self.skips_in_a_row += 1
        guilty = [examine for total, examine in window if not bool(total.isfinite())]
        cause = "the loss is not finite" if guilty else self._cause(output.scaled, scale)
        if cause is None:
            return None
        failure = (guilty or [diagnose])[0](cause)
        self.failures.append(failure)
        if failure.helped:
            self.skips_in_a_row, self._due = 0, True
            raise Rollback(failure)
        self.bad_in_a_row += 1
        return failure

    @property
    def diverged(self) -> bool:
        """Whether float32 fails too, batch after batch."""
        return self.bad_in_a_row >= MOST_BAD_BATCHES

    def _cause(self, scaled: bool, scale: float) -> str | None:
        """Why a skipped update is more than an overflow of loss scaling; None if it is not."""
        if not scaled:
            return "the gradients are not finite"
        if scale < SMALLEST_SCALE:
            return f"the loss scale has collapsed to {scale:g}"
        if self.skips_in_a_row >= MOST_SKIPS:
            return f"{self.skips_in_a_row} updates in a row were skipped"
        return None


def keep(value: Any, before: Any = None) -> Any:
    """A copy of a state of plain data and tensors.  Tensors are copied into those of ``before``, an
    earlier copy, if their shapes are equal: new memory costs more than the copying."""
    if isinstance(value, Tensor):
        fits = isinstance(before, Tensor) and before.shape == value.shape
        if fits and before.dtype == value.dtype and before.device == value.device:
            return before.copy_(value)
        return value.detach().clone()
    if isinstance(value, dict):
        named = before if isinstance(before, dict) else {}
        return {key: keep(item, named.get(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        placed = before if isinstance(before, list | tuple) else ()
        return type(value)(keep(*pair) for pair in zip_longest(value, placed[: len(value)]))
    return copy.deepcopy(value)


def find_failure(
    model: Detector,
    criterion: DetectionLoss,
    batches: Sequence[Batch],
    precision: Precision,
    at: Position,
    cause: str,
) -> Failure:
    """Run the micro-batches of a batch again on copies of ``model``, in ``precision`` and in
    float32, and name the loss part, the layer, the images and the stages.  Only this rank's images
    take part."""
    criterion = criterion.alone()

    def look(precision: Precision) -> Look:
        """The first pass that is not finite, else the first."""
        looked = [_look(model, criterion, batch, precision) for batch in batches]
        return next((found for found in looked if not found.finite), looked[0])

    found = look(precision)
    exact = Precision("fp32", precision.device_type, "diagnosis")
    helped = precision.name != "fp32" and look(exact).finite
    images = [path.name for batch in batches for path in batch.paths]
    return Failure(
        at.epoch, at.batch, precision.name, found.part, found.layer, images, helped, cause,
        guilty=not found.finite,
        fp32_stages=_stages_that_help(look, precision, found) if helped else (),
    )  # fmt: skip


def _stages_that_help(
    look: Callable[[Precision], Look], precision: Precision, found: Look
) -> tuple[str, ...]:
    """The stages that must be in float32 so that the batch is finite in ``precision``: those that
    already are, and those that went wrong; none if that does not help."""
    stages = precision.fp32_stages
    for _ in range(ROUNDS):
        more = tuple(name for name in found.suspects if name not in stages)
        if found.finite or not more:
            return ()
        stages += more
        found = look(replace(precision, fp32_stages=stages))
        if found.finite:
            return stages
    return ()


def worst(failures: Sequence[Failure]) -> Failure:
    """One failure for all ranks: that of a rank whose images failed, preferably one that float32
    does not help.  ``helped`` is True only if float32 helps every rank, and stages are named only
    if single stages help every rank whose images failed."""
    named = min(failures, key=lambda failure: (not failure.guilty, failure.helped))
    guilty = [failure.fp32_stages for failure in failures if failure.guilty]
    stages = dict.fromkeys(name for own in guilty for name in own) if all(guilty) else ()
    helped = all(failure.helped for failure in failures)
    return replace(named, helped=helped, fp32_stages=tuple(stages))


@dataclass(frozen=True)
class Look:
    """One pass.  part: of the loss that is not finite, else ``gradient``.  layer: the first whose
    output is not.  suspects: the stages that may be the reason."""

    part: str
    layer: str | None
    finite: bool
    suspects: tuple[str, ...]


def _look(model: Detector, criterion: DetectionLoss, batch: Batch, precision: Precision) -> Look:
    model = copy.deepcopy(model).train()
    keep_in_float32(model, precision.fp32_stages)
    first: list[str] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not first and not all(bool(t.isfinite().all()) for t in tensors_in(output)):
                first.append(name)

        return hook

    hooks = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if not any(True for _ in module.children())
    ]
    with precision.autocast():
        outputs = model(batch.images)
    for hook in hooks:
        hook.remove()
    loss = criterion(outputs, batch)
    bad = [name for name, value in loss.parts.items() if not bool(value.isfinite())]
    loss.total.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    finite = bool(loss.total.isfinite()) and all(bool(g.isfinite().all()) for g in grads)
    layer = first[0] if first else None
    own = [stage for stage in model.stages if f"{layer}.".startswith(f"{stage}.")]
    suspects = () if finite else suspected(model, own)
    return Look(", ".join(bad) or "gradient", layer, finite, suspects)
