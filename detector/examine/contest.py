"""One precision in a comparison: real training steps, their speed, memory and energy.

Every contender trains its own copy of the same model on the same batches with the same learning
rates, with the TrainStep of a run.  Batches are on the device beforehand: the loader is not
measured.  TF32 is a setting of the process, so it is set around each round.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace

import torch
from torch import Tensor

from ...datasets.nouns import Batch
from ..options.amp import ProbeConfig
from ..options.train import TrainConfig
from ..precision.precision import Precision
from ..precision.probe import count_saved_bytes
from ..run.device import synchronize
from ..train.assemble import Run
from ..train.ema import ModelEma
from ..train.optim import build_optimizer, choose_optimizer, set_learning_rate
from ..train.step import TrainStep
from .energy import EnergyMeter

ENERGY_SECONDS = 3.0
"""Seconds between two readings of an energy counter, which may update only ten times per second."""
MOST_IMAGES = 1024
"""Largest batch to try: feature maps of larger ones exceed the index range of kernels."""


def training_config(config: ProbeConfig) -> TrainConfig:
    """The training run to measure: the given options, the rest at their defaults.

    Images are loaded in this process, on the CPU and uncached, since a few batches are enough.  A
    model name means fresh weights.
    """
    known = {entry.name for entry in fields(TrainConfig)}
    words = {name: value for name, value in asdict(config).items() if name in known}
    return TrainConfig(
        **words, workers=0, cache="none", augment_device="cpu", pretrained=False
    )


class Contender:
    """Training in one precision.  name: fp32, tf32, bf16 or fp16.  batches: used in turn.  warmup:
    steps until the learning rate reaches its peak."""

    def __init__(self, run: Run, name: str, batches: Sequence[Batch], warmup: int) -> None:
        self.name, self.device, self.batches, self.warmup = name, run.device, batches, warmup
        self.model = copy.deepcopy(run.model).train()
        self.criterion = copy.copy(run.criterion)
        ema = run.ema and ModelEma(self.model, decay=run.ema.decay, tau=run.ema.tau)
        self.step = TrainStep(
            self.model,
            self.criterion,
            build_optimizer(self.model, choose_optimizer(run.config)),
            Precision("fp32" if name == "tf32" else name, run.device.type, "measured"),
            ema=ema,
            clip=run.config.clip,
        )
        self.steps = self.skipped = 0
        self.loss = math.nan

    def train(self, steps: int) -> float:
        """Train ``steps`` more steps; returns the seconds."""
        total: Tensor | None = None
        with float32_products(self.device, short=self.name != "fp32"):
            synchronize(self.device)
            started = time.perf_counter()
            for _ in range(steps):
                total = self._learn()
            synchronize(self.device)
            seconds = time.perf_counter() - started
        if total is not None:
            self.loss = total.item() / len(self.batches[(self.steps - 1) % len(self.batches)])
        return seconds

    def _learn(self) -> Tensor:
        batch = self.batches[self.steps % len(self.batches)]
        set_learning_rate(self.step.optimizer, min((self.steps + 1) / self.warmup, 1.0))
        # a run on CUDA does not wait for the device either (guard.py)
        output = self.step(batch, update=True, eager=self.device.type != "cuda")
        self.skipped += bool(output.skipped)
        self.steps += 1
        return output.loss.total.detach()

    def saved_bytes(self) -> int:
        """Bytes that autograd saves for the backward pass of the first batch."""
        with (
            float32_products(self.device, short=self.name != "fp32"),
            count_saved_bytes(self.model) as saved,
            self.step.precision.autocast(),
        ):
            outputs = self.model(self.batches[0].images)
            self.criterion(outputs, self.batches[0])
        return saved.total

    def joules_per_image(self, meter: EnergyMeter, images_per_s: float) -> float:
        """Joules per image over about ENERGY_SECONDS of training.  images_per_s: approximate."""
        images = len(self.batches[0])
        steps = max(math.ceil(ENERGY_SECONDS * images_per_s / images), 1)
        before, done = meter.joules(), self.steps
        self.train(steps)
        used = meter.joules() - before
        return used / sum(len(self.batches[i % len(self.batches)]) for i in range(done, self.steps))


@contextlib.contextmanager
def float32_products(device: torch.device, *, short: bool) -> Iterator[None]:
    """On CUDA, compute float32 products and convolutions in TF32 where ``short``, else in true
    float32.  No effect elsewhere."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if short else "highest")
    torch.backends.cudnn.allow_tf32 = short
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def measure_memory(run: Run, name: str, batches: Sequence[Batch]) -> tuple[int | None, int]:
    """(peak bytes of training on the CUDA device, None elsewhere; bytes saved for the backward
    pass).  The peak includes weights, gradients, optimizer and EMA."""
    cuda = run.device.type == "cuda"
    before = _start_counting(run.device) if cuda else 0
    contender = Contender(run, name, batches[:1], warmup=2)
    contender.train(2)
    peak = torch.cuda.max_memory_allocated(run.device) - before if cuda else None
    return peak, contender.saved_bytes()


def _start_counting(device: torch.device) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def largest_batch(run: Run, name: str, batch: Batch) -> int:
    """The largest power of two of images that trains for two steps, up to MOST_IMAGES; 0 if not
    even one image fits."""
    size = 2 ** int(math.log2(len(batch)))
    while size > 1 and not _fits(run, name, tiled(batch, size)):
        size //= 2
    while size < MOST_IMAGES and _fits(run, name, tiled(batch, 2 * size)):
        size *= 2
    return size


def _fits(run: Run, name: str, batch: Batch) -> bool:
    torch.cuda.empty_cache()
    try:
        Contender(run, name, (batch,), warmup=2).train(2)
    except RuntimeError:  # out of memory, or a shape that cuDNN has no kernel for
        return False
    return True


def tiled(batch: Batch, count: int) -> Batch:
    """A batch of ``count`` images, which repeats those of ``batch``."""
    size = len(batch)
    times = math.ceil(count / size)
    offsets = torch.arange(times, device=batch.batch_index.device) * size  # [times]
    images = batch.images.repeat(times, 1, 1, 1)
    whole = replace(
        batch,
        images=images.contiguous(memory_format=torch.channels_last),
        boxes=batch.boxes.repeat(times, 1),
        labels=batch.labels.repeat(times),
        batch_index=(offsets[:, None] + batch.batch_index).flatten(),
        indices=batch.indices * times,
        paths=batch.paths * times,
        original_sizes=batch.original_sizes * times,
        letterboxes=batch.letterboxes * times,
    )
    return whole.first(count)
