"""Real steps of a run that is thrown away afterwards: their memory.

Everything that a training step holds is there: the model with its average, the optimizer's state,
the copy that the guard keeps, the teacher, real images with their boxes, and the chosen precision.
With several ranks all take the same steps, and each number is that of the worst rank.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from ...datasets.nouns import Batch
from ..precision.precision import Precision
from ..run.device import synchronize
from ..run.memory import PeakMemory, drop_unused, free_memory
from ..run.rank_info import rank_info
from .assemble import Run
from .guard import keep
from .memory import largest_size, needs_of
from .micro_batches import MemoryRanOut, noticing_memory
from .step import TrainStep

LATER = 384 << 20
"""Bytes of a process on the CPU that a run takes beside its steps: threads, gaps, libraries for
pictures."""
RAN_OUT = 2**62
"""In place of a number of bytes: memory ran out."""


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
        self._kept = keep(
            [
                run.model.state_dict(),
                run.optimizer.state_dict(),
                run.ema.state_dict() if run.ema else None,
            ]
        )

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
        caches = sum(loader.dataset.cache.memory for loader in (run.train_loader, run.val_loader))
        return free // rank_info().local_size - caches - LATER


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
