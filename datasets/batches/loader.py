"""Samples to Batches: which images, in which order, prepared by processes or threads.

The order of an epoch depends on (seed, epoch) only, and so does every sample: the number of
processes changes nothing, and an epoch can be entered at any step.  A global batch is divided into
equal parts for the ranks, so that training sees the same batches on any number of devices.

With ``workers`` processes, each prepares whole batches ahead of time, which suits a model on
another device.  With none, the threads of a pool, as many as torch computes with, prepare the next
batch together when it is needed: nothing competes with a model on the same cores, or idles.

If a painter holds the images on a device, processes and threads only plan; the painter draws the
planned batch when it is needed.

If the data set has weights (balance.py), an epoch of the same length draws images by them.

If the inputs of its images differ in shape (rect), a batch has images of one shape (by_shape.py).
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ...files.limits import spare_files, usable_cores
from ..nouns import Batch
from .balance import draw_epoch, occurrences
from .by_shape import common_shape, mixed_by_shape, runs_of_one_shape, sorted_by_shape
from .dataset import DetectionDataset, Key
from .device_draw import DevicePainter
from .device_plan import Layout, PlannedBatch, plan_batch
from .processes import AHEAD, BatchReader, Job, Prepared, Processes, sample_indices, to_batch

_MOST_WORKERS = 16
_MOST_PLANNERS = 4  # an image is planned in a tenth of the time that drawing it takes
_FILES_OF_WORKER = 24  # pipes, and the tensors of the batches that it has prepared
_FILES_FREE = 32  # for everything else: checkpoints, caches, libraries that are loaded late
_PLANNED_BYTES = 2**16  # of an image, in the memory that processes share


class Loader:
    """Batches of a data set, one epoch at a time.

    batch_size: images per step over all ranks.  shuffle: random order, and a last step that is
    padded by wrapping until all ranks have equally many images (training); False keeps the order
    and shows every image once (validation).  seed: of the order.  repeats: how often an epoch
    uses each image, each time with other random numbers.  workers: processes; None chooses, 0
    works in this one; if fewer are used than asked for, ``fewer_workers`` says why.  device_type:
    where batches go (``cuda`` gets page-locked memory).
    drop_last: leave out a last step that is not full, unless it is the only one.  context: how
    processes start (fork, spawn, forkserver); None is Python's default.  local_ranks: ranks on
    this machine, which share its cores.  painter: made for the same data set, draws its images.
    Raises ValueError if batch_size cannot be divided equally among the ranks.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        repeats: int = 1,
        workers: int | None = None,
        device_type: str = "cpu",
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        context: str | None = None,
        local_ranks: int = 1,
        painter: DevicePainter | None = None,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(
                f"batch={batch_size} cannot be divided equally among {world_size} devices: "
                f"use a multiple of {world_size}"
            )
        self.dataset = dataset
        self._seed = seed
        self._shuffle = shuffle
        self._repeats = repeats
        self._batch_size, self._world_size = batch_size, world_size
        if shuffle:
            shares = _shares(len(dataset) * repeats, batch_size, rank, world_size)
        else:
            self._order, shares = _in_order(dataset, batch_size, rank, world_size)
        if drop_last and len(dataset) * repeats >= batch_size:
            shares = shares[: len(dataset) * repeats // batch_size]
        self._shares = shares
        share = batch_size // world_size if shuffle else batch_size
        self._painter = painter
        image_bytes = math.prod(dataset.input.whole) * 3 if painter is None else _PLANNED_BYTES
        room = _room_for_workers(share * image_bytes)
        cores = max(usable_cores() // local_ranks, 1)
        named = workers or 0
        if workers is None:
            most = _MOST_WORKERS if painter is None else _MOST_PLANNERS
            workers = min(choose_workers(device_type, cores, len(shares)), most)
        files = max(spare_files() - _FILES_FREE, 0) // _FILES_OF_WORKER
        self.workers = min(workers, len(shares), room, files)
        why = _why_fewer(named, len(shares), room, files)
        self.fewer_workers = why if self.workers < named else ""
        self._device_type = device_type
        self._context = context
        self._pool_size = min(torch.get_num_threads(), share)  # `threads=` limits both
        self.lost: dict[int, str] = {}
        self.on_lost: Callable[[str], None] = lambda message: None
        self._pool: ThreadPoolExecutor | None = None
        self._processes: Processes | None = None

    def __len__(self) -> int:
        """Steps per epoch of this rank."""
        return len(self._shares)

    @property
    def smallest_batch(self) -> int:
        """Images of this rank in the smallest batch of an epoch."""
        return min(stop - start for start, stop in self._shares)

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from ``start_step`` on; those before it are not loaded.

        Starting an epoch ends the one before.  Raises ImageError if an image cannot be read.
        """
        keys = self._keys(epoch)
        batches = [self._job(keys, step) for step in range(start_step, len(self._shares))]
        prepared = self._in_processes(batches) if self.workers else self._in_threads(batches)
        return map(self._finished, prepared)

    def _job(self, keys: list[Key], step: int) -> Job:
        """What is drawn for a step.  The shape is that of the batch of all ranks."""
        start, stop = self._shares[step]
        own = whole = [keys[i % len(keys)] for i in range(start, stop)]
        if not self.dataset.input.step:
            return Job(own, self.dataset.input.whole)
        if self._shuffle:  # all ranks have equal shares of the batch
            first = step * self._batch_size
            end = first + len(own) * self._world_size
            whole = [keys[i % len(keys)] for i in range(first, end)]
        return Job(own, common_shape([self.dataset.shape(index) for _, index, _ in whole]))

    def _finished(self, prepared: Prepared) -> Batch:
        batch = prepared
        if not isinstance(batch, Batch):
            assert self._painter is not None
            batch = self._painter.draw(batch)
        for index, reason in {**self.dataset.lost, **batch.lost}.items():
            if index not in self.lost:
                if reason not in self.lost.values():  # all tiles of an image have one reason
                    self.on_lost(f"skipped from now on: {reason}")
                self.lost[index] = reason
        return batch

    def close(self) -> None:
        """End the processes and threads; the next epoch would start new ones."""
        if self._processes is not None:
            self._processes.close()
            self._processes = None
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _keys(self, epoch: int) -> list[Key]:
        """Every sample of the epoch in order, of all ranks: each repeat is a pass of its own.

        With weights, one draw fills the epoch, and copies of an image are numbered as repeats.
        """
        if not self._shuffle:
            return [(epoch, index, 0) for index in self._order]
        keys = self._shuffled(epoch)
        if not self.dataset.input.step:
            return keys
        shapes = [self.dataset.shape(index) for _, index, _ in keys]
        rng = np.random.default_rng((self._seed, epoch, 0, 0, 2))  # a stream of its own, see below
        return mixed_by_shape(keys, shapes, self._batch_size, rng)

    def _shuffled(self, epoch: int) -> list[Key]:
        count, weights = len(self.dataset), self.dataset.weights
        if weights is not None:
            rng = np.random.default_rng((self._seed, epoch, 0, 0, 1))
            drawn = draw_epoch(rng, weights, count * self._repeats)
            numbers = occurrences(drawn)
            return [(epoch, *pair) for pair in zip(drawn.tolist(), numbers.tolist(), strict=True)]
        keys: list[Key] = []
        for repeat in range(self._repeats):
            # Five numbers, the last not zero: a stream that no sample's four numbers share.
            order = np.random.default_rng((self._seed, epoch, repeat, 0, 1)).permutation(count)
            keys += [(epoch, index, repeat) for index in order.tolist()]
        return keys

    def _in_processes(self, batches: list[Job]) -> Iterator[Prepared]:
        if self._processes is None:
            layout = self._painter.layout if self._painter else None
            pin = self._device_type == "cuda"
            reader = BatchReader(self.dataset, layout)
            self._processes = Processes(reader, self.workers, pin, self._context)
        return self._processes.run(batches)

    def _in_threads(self, batches: list[Job]) -> Iterator[Prepared]:
        """On a CPU device a batch is started when it is needed, else one is prepared ahead."""
        ahead, pin = (0 if self._device_type == "cpu" else 1), self._device_type == "cuda"
        begun: deque[_BegunBatch | _BegunPlan] = deque()
        for job in batches:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._pool_size, "loader")
            if self._painter is None:
                begun.append(_BegunBatch(self.dataset, job, self._pool))
            else:
                begun.append(_BegunPlan(self.dataset, self._painter.layout, job, self._pool))
            if len(begun) > ahead:
                yield begun.popleft().finish(pin)
        while begun:
            yield begun.popleft().finish(pin)


class _BegunPlan:
    """A batch that is being planned by a thread of a pool."""

    def __init__(
        self, dataset: DetectionDataset, layout: Layout, job: Job, pool: ThreadPoolExecutor
    ) -> None:
        self._planned = pool.submit(plan_batch, dataset, layout, *job)

    def finish(self, pin: bool) -> PlannedBatch:
        """Wait for the plan."""
        planned = self._planned.result()
        return planned.pin_memory() if pin else planned


class _BegunBatch:
    """A batch whose images are being drawn by the threads of a pool."""

    def __init__(self, dataset: DetectionDataset, job: Job, pool: ThreadPoolExecutor) -> None:
        keys, shape = job
        self._keys = keys
        self._dataset = dataset
        self._images = np.empty((len(keys), *shape, 3), np.uint8)
        self._samples = [
            pool.submit(dataset.draw, key, image)
            for key, image in zip(keys, self._images, strict=True)
        ]

    def finish(self, pin: bool) -> Batch:
        """Wait for the images; ImageError if one cannot be read."""
        samples = [sample.result() for sample in self._samples]
        indices, lost = sample_indices(self._keys), self._dataset.lost
        batch = to_batch(torch.from_numpy(self._images), samples, indices, lost)
        return batch.pin_memory() if pin else batch


def _in_order(
    dataset: DetectionDataset, batch_size: int, rank: int, world_size: int
) -> tuple[list[int], list[tuple[int, int]]]:
    """Every image once, shape by shape where these differ; and start and stop of each step of a
    rank.  The ranks take whole batches in turn: the same batches as one process, so the same bits.
    """
    order, runs = list(range(len(dataset))), [(0, len(dataset))]
    if dataset.input.step:
        shapes = [dataset.shape(index) for index in order]
        order = sorted_by_shape(shapes)
        runs = runs_of_one_shape([shapes[index] for index in order])
    batches = [
        (start, min(start + batch_size, end))
        for first, end in runs
        for start in range(first, end, batch_size)
    ]
    return order, batches[rank::world_size]


def _shares(total: int, batch_size: int, rank: int, world_size: int) -> list[tuple[int, int]]:
    """A rank's part of an epoch of training: start and stop of each of its steps.

    Each batch is divided, and the last one runs past ``total`` until it can be.
    """
    shares = []
    for start in range(0, total, batch_size):
        size = min(batch_size, total - start)
        size += -size % world_size
        shares.append(
            (start + size * rank // world_size, start + size * (rank + 1) // world_size)
        )
    return shares


def choose_workers(device_type: str, cores: int, batches: int) -> int:
    """How many loader processes suit a device; 0 means threads in the training process.

    On a CPU the model needs all cores.  An accelerator leaves them to the loader, except for the
    one that feeds it.  batches: per epoch.
    """
    if device_type == "cpu":
        return 0
    return max(1, min(cores - 1, batches, _MOST_WORKERS))


def _why_fewer(wanted: int, batches: int, room: int, files: int) -> str:
    """Why fewer processes than ``wanted`` are used, for the log."""
    if files < min(batches, room):
        return f"workers={wanted}: {files} are used, more would open too many files (ulimit -n)"
    if room < batches:
        return f"workers={wanted}: {room} are used, batches of more do not fit the shared memory"
    return f"workers={wanted}: {batches} are used, as many as an epoch has batches"


def _room_for_workers(batch_bytes: int) -> int:
    """How many workers' batches fit into half of the shared memory through which torch passes them.

    Containers often have 64 MB of it; a batch that does not fit kills its worker.
    """
    try:
        shared = os.statvfs("/dev/shm")
    except OSError:  # systems other than Linux have no such limit
        return _MOST_WORKERS
    return shared.f_bavail * shared.f_frsize // 2 // (batch_bytes * (AHEAD + 1))
