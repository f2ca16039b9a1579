"""Real steps of a run that is thrown away afterwards: their memory and time.

Everything that a training step holds is there: the model with its average, the optimizer's state,
the copy that the guard keeps, the teacher, real images with their boxes, and the chosen precision.
With several ranks all take the same steps, and each number is that of the worst rank.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from ...datasets.nouns import Batch
from ..precision.precision import Precision
from ..run.device import synchronize
from ..run.memory import PeakMemory, drop_unused, free_memory
from ..run.rank_info import rank_info
from .assemble import Run
from .guard import keep
from .memory import cache_bytes, largest_size, needs_of
from .micro_batches import MemoryRanOut, noticing_memory
from .optim import set_learning_rate
from .step import TrainStep

LATER = 384 << 20
"""Bytes of a process on the CPU that a run takes beside its steps: threads, gaps, libraries for
pictures."""
RAN_OUT = 2**62
"""In place of a number of bytes: memory ran out."""


@dataclass(frozen=True)
class Cost:
    """What a step takes.  bytes: with all that was there before.  ms: of the whole step.  images:
    that were measured; of more images it is calculated."""

    bytes: int
    ms: float
    images: int


class TrialStep:
    """Takes steps with ``run``, whose weights are spent by it.

    room: bytes that a step may take on the device, by the rank with the least.
    """

    def __init__(self, run: Run, precision: Precision) -> None:
        self.run, self.precision = run, precision
        batch = next(iter(run.train_loader.epoch(0))).to(run.device)
        self.batch = enlarged(batch, largest_size(run))
        self.peak = PeakMemory(run.device)
        self.peak.begin()
        self.room = -run.ranks.largest(-self._own_room())
        run.model.train()
        self.step = TrainStep(
            run.model,
            run.criterion.alone(taught=True),
            run.optimizer,
            precision,
            ema=run.ema,
            clip=run.config.clip,
        )
        self.step(tiled(self.batch, 2), update=True, eager=False)  # now the optimizer has its state
        self.copy()

    def copy(self) -> None:
        """Hold a copy of the state, as the guard of a run does."""
        run = self.run
        average = run.ema.state_dict() if run.ema else None
        self._kept = None
        self._kept = keep([run.model.state_dict(), run.optimizer.state_dict(), average])

    def __call__(self, images: int) -> int:
        """Bytes of a step with ``images`` of this rank: its peak above the idle run, or RAN_OUT
        where it did not fit."""
        if not self.peak.measurable(self.run.device):
            size = largest_size(self.run)
            return needs_of(self.run.model, size, self.precision, self.run.optimizer).of(images)
        drop_unused(self.run.device)
        self.peak.reset()
        fits = True
        try:
            with noticing_memory():
                self.step(tiled(self.batch, images), update=False, eager=False)
                synchronize(self.run.device)
        except MemoryRanOut:
            fits = False
        return self.run.ranks.largest(self.peak.bytes() if fits else RAN_OUT)

    def cost(self, images: int) -> Cost:
        """What a step and its update take with ``images`` of this rank, in micro-batches if the
        step has them.  Where ``room`` is too small, two smaller numbers of images are measured, and
        the line through them is followed.  Raises MemoryRanOut if not even one image fits."""
        run, whole = self.run, min(self.step.micro_batch or images, images)
        needs = needs_of(run.model, largest_size(run), self.step.precision, run.optimizer)
        fitting = (self.room - needs.fixed) // max(needs.image, 1)
        count = run.ranks.largest(-max(min(whole, fitting), 1)) * -1
        while True:
            try:
                taken, ms = self._measured(images if count == whole else count, needs.of(whole))
                break
            except MemoryRanOut:  # on all ranks
                if count == 1:
                    raise
                count //= 2
        if count < whole:
            fewer = count // 2
            less = self._measured(fewer, needs.of(whole))[0] if fewer else 0
            taken += (taken - less) // (count - fewer) * (whole - count)
            ms *= images / count
        return Cost(self.peak.base + taken, ms, images if count == whole else count)

    def _measured(self, images: int, estimate: int) -> tuple[int, float]:
        """Bytes above the idle run, and ms, of the second of two steps; ``estimate`` where bytes
        cannot be measured."""
        batch, ranks = tiled(self.batch, images), self.run.ranks
        set_learning_rate(self.run.optimizer, 0.0)  # the weights stay, and so does what is found
        why, ms = "", 0.0
        try:
            for _ in range(2):
                drop_unused(self.run.device)
                self.peak.reset()
                began = time.perf_counter()
                with noticing_memory():
                    self.step(batch, update=True, eager=False)
                    synchronize(self.run.device)
                ms = 1000 * (time.perf_counter() - began)
        except MemoryRanOut as ran_out:
            why = str(ran_out)
        measured = self.peak.bytes() if self.peak.measurable(self.run.device) else estimate
        taken = ranks.largest(RAN_OUT if why else measured)
        if taken == RAN_OUT:
            self.step.drop_gradients()
            raise MemoryRanOut(why or "on another rank")
        return taken, ranks.largest(round(1000 * ms)) / 1000

    def end(self) -> None:
        """Free everything that the steps have taken; the parts of the run are of no use then."""
        run = self.run
        self.step.drop_gradients()
        run.optimizer.state.clear()
        run.model.to("meta")
        if run.ema:
            run.ema.average.to("meta")
        self._kept = None
        drop_unused(run.device)

    def _own_room(self) -> int:
        """What is free, without what the run will take beside its steps."""
        run, free = self.run, free_memory(self.run.device)
        if run.ranks.size > 1:  # the buffers in which ranks exchange their gradients
            free -= sum(p.numel() * p.element_size() for p in run.model.parameters())
        if run.device.type != "cpu":
            return free
        return free // rank_info().local_size - cache_bytes(run) - LATER


def tiled(batch: Batch, images: int) -> Batch:
    """``images`` images: those of ``batch``, again and again."""
    order = torch.arange(images) % len(batch)
    boxes = [(batch.batch_index == i).nonzero()[:, 0] for i in range(len(batch))]
    rows = torch.cat([boxes[i] for i in order.tolist()])
    counts = torch.tensor([len(boxes[i]) for i in order.tolist()])
    places = order.tolist()
    return Batch(
        batch.images[order.to(batch.images.device)],
        batch.boxes[rows],
        batch.labels[rows],
        torch.arange(images).repeat_interleave(counts).to(batch.batch_index.device),
        [batch.indices[i] for i in places],
        [batch.paths[i] for i in places],
        [batch.original_sizes[i] for i in places],
        [batch.letterboxes[i] for i in places],
    )


def enlarged(batch: Batch, size: tuple[int, int]) -> Batch:
    """The batch at the largest size that a step may meet: ``multi_scale=`` and ``rect=`` vary
    it."""
    height, width = batch.images.shape[-2:]
    if size == (height, width):
        return batch
    images = F.interpolate(batch.images.float(), size=size).to(torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last)
    gain = torch.tensor([size[1] / width, size[0] / height], device=batch.boxes.device)
    return replace(batch, images=images, boxes=batch.boxes * gain.repeat(2))
