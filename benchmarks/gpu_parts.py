"""The measurements of gpu.py: a training step alone, a step fed by the loader, drawing alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from loader import DEFAULT, make_records
from yolodet.datasets.batches.dataset import DetectionDataset
from yolodet.datasets.batches.device_draw import DevicePainter
from yolodet.datasets.batches.loader import Loader
from yolodet.datasets.images.cache import ImageCache
from yolodet.datasets.nouns import Batch
from yolodet.detector.losses.detection import DetectionLoss, Gains
from yolodet.detector.models.build import build
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.precision import Precision
from yolodet.detector.run.device import memory_in_use, synchronize
from yolodet.detector.train import feed
from yolodet.detector.train.ema import ModelEma
from yolodet.detector.train.optim import build_optimizer, choose_optimizer
from yolodet.detector.train.step import TrainStep

WARM_UP = 4  # steps: kernels are chosen, memory is taken
CLASSES = 3  # of the made up boxes
LONG_EPOCH = 20_000  # images: at its end processes run dry, which must not come too often
Row = dict[str, Any]


def make_data(folder: Path, images: int, image_size: int) -> DetectionDataset:
    """Made-up images, decoded and in memory."""
    records = make_records(folder, images)
    cache = ImageCache(records, image_size, mode="ram")
    data = DetectionDataset(records, image_size, augment=DEFAULT, cache=cache)
    for index in range(len(data)):
        data.read(index)
    return data


class Step:
    """A model with everything that its training step needs."""

    def __init__(
        self, model: str, batch: int, precision: str, data: DetectionDataset, device: torch.device
    ) -> None:
        self.name, self.batch, self.precision = model, batch, precision
        self.data, self.device = data, device
        network = build(model, CLASSES).to(device, memory_format=torch.channels_last).train()
        network.detach_one_to_one = False
        self.step = TrainStep(
            network,
            DetectionLoss(Gains()),
            build_optimizer(network, choose_optimizer(TrainConfig())),
            Precision(precision, device.type, "as told"),
            ema=ModelEma(network, decay=0.99, tau=100.0),
            clip=10.0,
        )

    def learn(self, batch: Batch) -> None:
        """One step as the trainer does it."""
        self.step(batch, update=True, eager=False)

    def facts(self, kind: str, seconds: float, steps: int) -> Row:
        """The columns of every row."""
        return {
            "kind": kind,
            "model": self.name,
            "batch": self.batch,
            "precision": self.precision,
            "images_per_s": steps * self.batch / seconds,
            "step_ms": 1000 * seconds / steps,
            "gib": memory_in_use(self.device),
        }

    def alone(self, seconds: float) -> Row:
        """Steps on batches that lie on the device."""
        loader = Loader(self.data, self.batch, shuffle=True, workers=0)
        batches = [
            batch.to(self.device) for batch, _ in zip(endless(loader), range(4), strict=False)
        ]
        loader.close()
        for turn in range(WARM_UP):
            self.learn(batches[turn % len(batches)])
        synchronize(self.device)
        started, steps = time.perf_counter(), 0
        while steps < 2 or time.perf_counter() - started < seconds:
            for batch in batches:
                self.learn(batch)
            steps += len(batches)
            synchronize(self.device)
        row = self.facts("step", time.perf_counter() - started, steps)
        return {**row, "kernels": self._kernels(batches, row["step_ms"])}

    def _kernels(self, batches: list[Batch], step_ms: float) -> float | None:
        """Share of a step in which kernels run on the device; None where that is the CPU."""
        if self.device.type != "cuda":
            return None
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            for batch in batches[:2]:
                self.learn(batch)
            synchronize(self.device)
        busy_us = sum(event.self_device_time_total for event in profile.key_averages())
        return busy_us / 1000 / len(batches[:2]) / step_ms


class Fed(Step):
    """A step that is fed by the loader.  on: ``cpu``, or ``device`` for drawing with torch."""

    def __init__(
        self,
        model: str,
        batch: int,
        precision: str,
        data: DetectionDataset,
        device: torch.device,
        on: str,
    ) -> None:
        super().__init__(model, batch, precision, data, device)
        self.drawn = on
        self.clock = Clock(device)
        self.loader = make_loader(batch, data, device, on == "device", clock=self.clock)

    def loop(self, seconds: float) -> Row:
        """Steps as in an epoch, timed by events on the device."""
        stream = feed.on_device(endless(self.loader), self.device)
        for _ in range(WARM_UP):
            self.learn(next(stream))
        synchronize(self.device)
        self.clock.marks.clear()
        started, steps = time.perf_counter(), 0
        self.clock.mark("end")
        while steps < 3 or time.perf_counter() - started < seconds:
            batch = next(stream)
            self.clock.mark("there")
            self.learn(batch)
            self.clock.mark("end")
            steps += 1
        synchronize(self.device)
        row = self.facts("loop", time.perf_counter() - started, steps)
        self.loader.close()
        return {**row, "drawn": self.drawn, **self.clock.shares()}


class Clock:
    """Times at which the device reached a mark; on a CPU, the program."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[tuple[str, Any]] = []

    def mark(self, name: str) -> None:
        """Set a mark on the current stream of the device."""
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append((name, event))
        else:
            self.marks.append((name, time.perf_counter()))

    def shares(self) -> dict[str, float]:
        """Shares of the time: waits (from the end of a step until the data for the next is there)
        and draws (from when drawing begins until then, be it beside a step)."""
        steps = [(name, at) for name, at in self.marks if name != "draw"]
        total = self._between(steps[0][1], steps[-1][1])
        waits = self._sum(steps, "end", "there")
        draws = self._sum([(name, at) for name, at in self.marks if name != "end"], "draw", "there")
        return {"waits": waits / total, "draws": draws / total}

    def _sum(self, marks: list[tuple[str, Any]], before: str, after: str) -> float:
        return sum(
            self._between(first, second)
            for (one, first), (other, second) in pairwise(marks)
            if (one, other) == (before, after)
        )

    def _between(self, first: Any, second: Any) -> float:
        if self.device.type == "cuda":
            return float(first.elapsed_time(second))
        return float(second - first)


class ClockedPainter(DevicePainter):
    """A painter that marks when it begins."""

    clock: Clock

    def draw(self, planned: Any) -> Batch:
        """Mark, then draw."""
        self.clock.mark("draw")
        return super().draw(planned)


def make_loader(
    batch: int,
    data: DetectionDataset,
    device: torch.device,
    on_device: bool,
    *,
    clock: Clock,
    workers: int | None = None,
) -> Loader:
    """A loader that draws on the device or on the CPU."""
    painter = None
    if on_device:
        painter = ClockedPainter(data, device)
        painter.clock = clock
        painter.fill()
    return Loader(
        data, batch, shuffle=True, workers=workers, device_type=device.type, painter=painter,
        drop_last=True, repeats=max(LONG_EPOCH // len(data), 1),
    )  # fmt: skip


class Draws:
    """Drawing without a model.  workers: None draws on the device, else processes on the CPU."""

    def __init__(
        self, batch: int, data: DetectionDataset, device: torch.device, workers: int | None
    ) -> None:
        self.device, self.workers = device, workers
        on_device = workers is None
        self.loader = make_loader(
            batch, data, device, on_device, clock=Clock(device), workers=workers
        )

    def alone(self, seconds: float) -> Row:
        """Images/s without a model to feed."""
        stream = feed.on_device(endless(self.loader), self.device)
        for _ in range(WARM_UP):
            next(stream)
        synchronize(self.device)
        started, images = time.perf_counter(), 0
        while not images or time.perf_counter() - started < seconds:
            images += len(next(stream))
        synchronize(self.device)
        rate = images / (time.perf_counter() - started)
        self.loader.close()
        return {"kind": "drawing", "workers": self.loader.workers, "images_per_s": rate}


def endless(loader: Loader) -> Iterator[Batch]:
    """The batches of all epochs, without end."""
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1
