"""``memory=8GiB``: options that make a run fit, found with real steps before the run.

In this order, and only as far as needed: half precision if the AMP check has passed it, stages that
are computed again in the backward pass, micro-batches, optimizer state in bfloat16.  The parts of
the run are built twice, as with ``batch=auto``: first to measure, then with the options that were
found.  From there on the run is one with these options: in args.yaml, in the checkpoint and after a
resume.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ...files.counted import counted
from ..models.checkpointing import checkpoint_stages, checkpointed_stages
from ..options.errors import UsageError
from ..options.memory_size import memory_bytes
from ..options.train import AUTO_SHARE, TrainConfig
from ..precision.ladder import Decision, precision_of, rungs_below
from ..precision.precision import Precision
from ..run.log import Log
from ..run.memory import PeakMemory, free_memory
from ..run.rank_info import rank_info
from ..run.ranks import Ranks
from .assemble import Run, assemble
from .bf16_state import is_kept_in_bf16, keep_in_bf16
from .decide import decide_precision
from .memory import OVERHEAD, largest_size, needs_of, stage_savings
from .micro_batches import MemoryRanOut, described
from .run_memory import GIB, beside_steps
from .trial_step import Cost, TrialStep

GAPS = 1.03
"""What steps come to hold after some epochs, over what two of them hold: gaps between blocks."""
SURELY = 1.3
"""Micro-batches are not measured if they are expected to need this many times the budget."""


@dataclass(frozen=True)
class Taken:
    """A way that was taken to need less, and the cost of a step before and after it."""

    way: str
    before: Cost
    after: Cost

    def line(self) -> str:
        """``micro-batches of 4 images: 2.10 -> 1.05 GiB, 900 -> 950 ms per step``."""
        sizes = f"{self.before.bytes / GIB:.2f} -> {self.after.bytes / GIB:.2f} GiB"
        return f"{self.way}: {sizes}, {self.before.ms:.0f} -> {self.after.ms:.0f} ms per step"


@dataclass(frozen=True)
class Settled:
    """What met the budget.  config: with the options that were found, and without ``memory=``.
    decision: the precision, which need not be measured again.  idle, budget, expected: bytes."""

    config: TrainConfig
    decision: Decision
    idle: int
    budget: int
    expected: int
    steps: list[Taken] = field(default_factory=list)

    def note(self) -> dict[str, Any]:
        """For memory.json."""
        steps = [asdict(taken) for taken in self.steps]
        return {"budget": self.budget, "expected": self.expected, "steps": steps}


def settle_memory(config: TrainConfig, log: Log, ranks: Ranks) -> Settled:
    """Find the options, the same on all ranks, and say what each of them costs.

    Raises UsageError if the budget cannot be met, and what ``assemble`` raises."""
    assert config.memory is not None
    with contextlib.closing(assemble(replace(config, memory=None), log, ranks=ranks)) as run:
        fitting = Fitting(run, config.memory, log)
        try:
            return fitting.settle(config)
        finally:
            fitting.end()


class Fitting:
    """The run that is measured, and changed until it fits."""

    def __init__(self, run: Run, word: str, log: Log) -> None:
        self.run, self.word, self.log = run, word, log
        self.images = run.config.batch_size // run.ranks.size
        self.idle, self.budget = _budget(run, word, log)
        precision = Precision("fp32", run.device.type, "")
        needs = needs_of(run.model, largest_size(run), precision, run.optimizer)
        most = max((self.budget - self.idle - needs.fixed) // max(needs.image, 1), 1)
        self.decision = decide_precision(run, None, log, most=min(most, self.images))
        self.trial = TrialStep(run, self.decision.precision)
        if run.config.micro_batch is not None:
            self.trial.step.micro_batch = run.config.micro_batch // run.ranks.size
        self.words: dict[str, Any] = {}
        """The options that were found."""

    def settle(self, config: TrainConfig) -> Settled:
        """Take one way after the other until the run fits.  Raises UsageError."""
        ways = (self._half, self._checkpointing, self._micro_batches, self._state)
        steps: list[Taken] = []
        with self.log.progress("measuring the memory of a step", 0) as update:
            update(0, 0, "as it is")
            now = self._cost()
            size, label = f"{now.bytes / GIB:.2f} GiB", self.decision.precision.label
            self._say(f"{size} at {now.ms:.0f} ms per step in {label}", now)
            for way in ways:
                if now.bytes <= self.budget:
                    break
                before, what = now, ""
                for what in way(now):
                    update(0, 0, what)
                    now = self._cost()
                    if now.bytes <= self.budget:
                        break
                if what:
                    steps.append(Taken(what, before, now))
                    self._say(steps[-1].line(), now)
        if now.bytes > self.budget:
            raise UsageError(self._too_much(now))
        found = replace(config, memory=None, **self.words)
        return Settled(found, self.decision, self.idle, self.budget, now.bytes, steps)

    @property
    def per_pass(self) -> int:
        """Images of this rank per forward pass."""
        return min(self.trial.step.micro_batch or self.images, self.images)

    def end(self) -> None:
        """Free what the trial steps have taken."""
        self.trial.end()

    # -- the ways: each changes the run, says how, and goes further if it is asked again ----------

    def _half(self, now: Cost) -> Iterator[str]:
        """A precision that has passed the check, although it is not faster here."""
        trials = self.decision.trials
        passed = [t for t in trials if t.precision != "fp32" and t.problem is None]
        if self.decision.precision.name != "fp32" or not passed:
            return
        best = min(passed, key=lambda trial: trial.saved_bytes)
        reason = f"passed the check, and memory={self.word} needs it"
        precision = precision_of(best, self.run.device.type, reason)
        below = rungs_below(best.precision, self.decision.objections)
        self.decision = replace(self.decision, precision=precision, rungs=below)
        self.trial.step.use(precision)
        self.words["amp"] = precision.name
        yield f"{precision.label} in place of fp32"

    def _checkpointing(self, now: Cost) -> Iterator[str]:
        """The stages that save most, as few as should do, then more."""
        run, step = self.run, self.trial.step
        if run.config.compile:
            return
        size = largest_size(run)
        savings = stage_savings(run.model, size, step.precision)
        names, missing, count = list(savings), now.bytes - self.budget, 0
        while count < len(names) and missing > 0:
            missing -= int(savings[names[count]] * self.per_pass * OVERHEAD)
            count += 1
        done = 0
        while done < len(names):
            checkpoint_stages(run.model, names[done:count])
            step.use(step.precision)  # puts float32 around what is computed again
            done, count = count, min(count + max(count // 2, 1), len(names))
            again, stages = checkpointed_stages(run.model), list(run.model.stages)
            self.words["checkpointing"] = len(again) == len(stages) or tuple(again)
            yield f"{len(again)} of {counted(len(stages), 'stage')} computed again (checkpointing=)"

    def _micro_batches(self, now: Cost) -> Iterator[str]:
        """The batch in 2, 4, 8 ... parts; parts that are surely too large are left out."""
        step, run = self.trial.step, self.run
        images = self.per_pass
        needs = needs_of(run.model, largest_size(run), step.precision, run.optimizer)
        expected = now.bytes
        while images > 1:
            smaller = (images + 1) // 2
            expected -= (images - smaller) * needs.image
            images = smaller
            if images > 1 and expected > SURELY * self.budget:
                continue
            step.micro_batch = images
            self.words["micro_batch"] = images * run.ranks.size
            yield described(images)

    def _state(self, now: Cost) -> Iterator[str]:
        """Momenta in two bytes per number."""
        if is_kept_in_bf16(self.run.optimizer):
            return
        keep_in_bf16(self.run.optimizer)
        self._cost()  # its update rounds what there is
        self.trial.copy()
        self.words["optimizer_state"] = "bf16"
        yield "optimizer state in bf16"

    # -- measuring and saying --------------------------------------------------------------------

    def _cost(self) -> Cost:
        """Of a step, with what the run takes beside its steps."""
        try:
            cost = self.trial.cost(self.images)
        except MemoryRanOut as error:
            raise UsageError(f"memory={self.word}: not even one image fits ({error})") from None
        grown = int((cost.bytes - self.idle) * GAPS)
        whole = self.idle + grown + beside_steps(self.run)
        return replace(cost, bytes=self.run.ranks.largest(whole))  # all decide alike

    def _say(self, text: str, cost: Cost) -> None:
        few = cost.images < self.images
        part = f" (calculated from {counted(cost.images, 'image')})" if few else ""
        self.log.info(f"memory={self.word}: {text}{part}")

    def _too_much(self, now: Cost) -> str:
        """The message of a budget that cannot be met."""
        run, stride = self.run, self.run.model.max_stride
        needs = needs_of(run.model, largest_size(run), self.trial.step.precision, run.optimizer)
        images = self.per_pass
        room = self.budget - (now.bytes - images * needs.image)
        sides = [int(s * max(room, 0) ** 0.5 / (images * needs.image) ** 0.5) // stride * stride
                 for s in run.image_size.whole]  # fmt: skip
        smaller = f"imgsz={min(sides)}, or " if min(sides) >= 2 * stride else ""
        least = -(-now.bytes * 100 // GIB) / 100
        return (
            f"memory={self.word} ({self.budget / GIB:.2f} GiB) cannot be met: the least that "
            f"{run.model.name} at {run.image_size} pixels was brought to is {least:.2f} GiB: use "
            f"{smaller}a smaller model, or memory={least:.2f}GiB"
        )


def _budget(run: Run, word: str, log: Log) -> tuple[int, int]:
    """What the idle run takes, and what it may take at most; in bytes, of the rank that is worst
    off."""
    peak = PeakMemory(run.device)
    peak.begin()
    sharing = rank_info().local_size if run.device.type == "cpu" else 1
    free = -run.ranks.largest(-(free_memory(run.device) // sharing))
    idle = run.ranks.largest(peak.base)
    most, wanted = idle + int(AUTO_SHARE * free), memory_bytes(word)
    if wanted is None:
        return idle, most
    if wanted > most:
        log.info(f"memory={word}: only {most / GIB:.2f} GiB are free, and count")
    return idle, min(wanted, most)

