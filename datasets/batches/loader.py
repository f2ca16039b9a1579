"""Samples to Batches: which images, in which order, prepared by processes or threads.

The order of an epoch depends on (seed, epoch) only, and so does every sample: the number of
processes changes nothing, and an epoch can be entered at any step.  A global batch is divided into
equal parts for the ranks, so that training sees the same batches on any number of devices.

With ``workers`` processes, each prepares whole batches ahead of time, which suits a model on
another device.  With none, the threads of a pool prepare the next batch together, on all cores,
when it is needed.  That suits a model on the same cores: nothing competes with it or idles.

If a painter holds the images on a device, processes and threads only plan; the painter draws the
planned batch when it is needed.

Not supported: weighted sampling, and batches of several sizes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ...files.limits import usable_cores
from ..images.image import ImageError
from ..nouns import Batch, Sample
from .dataset import DetectionDataset, Key
from .device_draw import DevicePainter
from .device_plan import Layout, PlannedBatch, plan_batch

_MOST_WORKERS = 16
_MOST_PLANNERS = 4  # an image is planned in a tenth of the time that drawing it takes
_PLANNED_BYTES = 2**16  # of an image, in the memory that processes share
_AHEAD = 2  # batches each worker prepares ahead
_SIGNALS = {signal.SIGINT, signal.SIGTERM}  # those that the trainer answers, not its workers

Prepared = Batch | PlannedBatch
"""What threads and processes prepare."""


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
        shares = _shares(len(dataset) * repeats, batch_size, rank, world_size, shuffle)
        if drop_last and len(dataset) * repeats >= batch_size:
            shares = shares[: len(dataset) * repeats // batch_size]
        self._shares = shares
        share = batch_size // world_size if shuffle else batch_size
        self._painter = painter
        image_bytes = dataset.image_size**2 * 3 if painter is None else _PLANNED_BYTES
        room = _room_for_workers(share * image_bytes)
        cores = max(usable_cores() // local_ranks, 1)
        named = workers or 0
        if workers is None:
            most = _MOST_WORKERS if painter is None else _MOST_PLANNERS
            workers = min(choose_workers(device_type, cores, len(shares)), most)
        self.workers = min(workers, len(shares), room)
        self.fewer_workers = _why_fewer(named, len(shares), room) if self.workers < named else ""
        self._device_type = device_type
        self._context = context
        self._pool_size = min(cores, share)
        self._pool: ThreadPoolExecutor | None = None
        self._processes: _Processes | None = None

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
        batches = [
            [keys[i % len(keys)] for i in range(start, stop)]
            for start, stop in self._shares[start_step:]
        ]
        prepared = self._in_processes(batches) if self.workers else self._in_threads(batches)
        return map(self._finished, prepared)

    def _finished(self, prepared: Prepared) -> Batch:
        if isinstance(prepared, Batch):
            return prepared
        assert self._painter is not None
        return self._painter.draw(prepared)

    def close(self) -> None:
        """End the processes and threads; the next epoch would start new ones."""
        if self._processes is not None:
            self._processes.close()
            self._processes = None
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _keys(self, epoch: int) -> list[Key]:
        """Every sample of the epoch in order, of all ranks: each repeat is a pass of its own."""
        count = len(self.dataset)
        keys: list[Key] = []
        for repeat in range(self._repeats):
            order = np.arange(count)
            if self._shuffle:
                # Five numbers, the last not zero: a stream that no sample's four numbers share.
                order = np.random.default_rng((self._seed, epoch, repeat, 0, 1)).permutation(count)
            keys += [(epoch, index, repeat) for index in order.tolist()]
        return keys

    def _in_processes(self, batches: list[list[Key]]) -> Iterator[Prepared]:
        if self._processes is None:
            layout = self._painter.layout if self._painter else None
            pin = self._device_type == "cuda"
            reader = _BatchReader(self.dataset, layout)
            self._processes = _Processes(reader, self.workers, pin, self._context)
        return self._processes.run(batches)

    def _in_threads(self, batches: list[list[Key]]) -> Iterator[Prepared]:
        """On a CPU device a batch is started when it is needed, else one is prepared ahead."""
        ahead, pin = (0 if self._device_type == "cpu" else 1), self._device_type == "cuda"
        begun: deque[_BegunBatch | _BegunPlan] = deque()
        for keys in batches:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._pool_size, "loader")
            if self._painter is None:
                begun.append(_BegunBatch(self.dataset, keys, self._pool))
            else:
                begun.append(_BegunPlan(self.dataset, self._painter.layout, keys, self._pool))
            if len(begun) > ahead:
                yield begun.popleft().finish(pin)
        while begun:
            yield begun.popleft().finish(pin)


class _BegunPlan:
    """A batch that is being planned by a thread of a pool."""

    def __init__(
        self, dataset: DetectionDataset, layout: Layout, keys: list[Key], pool: ThreadPoolExecutor
    ) -> None:
        self._planned = pool.submit(plan_batch, dataset, layout, keys)

    def finish(self, pin: bool) -> PlannedBatch:
        """Wait for the plan."""
        planned = self._planned.result()
        return planned.pin_memory() if pin else planned


class _BegunBatch:
    """A batch whose images are being drawn by the threads of a pool."""

    def __init__(
        self, dataset: DetectionDataset, keys: list[Key], pool: ThreadPoolExecutor
    ) -> None:
        side = dataset.image_size
        self._keys = keys
        self._images = np.empty((len(keys), side, side, 3), np.uint8)
        self._samples = [
            pool.submit(dataset.draw, key, image)
            for key, image in zip(keys, self._images, strict=True)
        ]

    def finish(self, pin: bool) -> Batch:
        """Wait for the images; ImageError if one cannot be read."""
        samples = [sample.result() for sample in self._samples]
        batch = _to_batch(torch.from_numpy(self._images), samples, _indices(self._keys))
        return batch.pin_memory() if pin else batch


def _shares(
    total: int, batch_size: int, rank: int, world_size: int, padded: bool
) -> list[tuple[int, int]]:
    """A rank's part of an epoch: start and stop of each of its steps.

    padded: each batch is divided, and the last one runs past ``total`` until it can be.  Else the
    ranks take whole batches in turn: the same batches as one process, so the same bits.
    """
    if not padded:
        starts = range(rank * batch_size, total, world_size * batch_size)
        return [(start, min(start + batch_size, total)) for start in starts]
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


def _why_fewer(wanted: int, batches: int, room: int) -> str:
    """Why fewer processes than ``wanted`` are used, for the log."""
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
    return shared.f_bavail * shared.f_frsize // 2 // (batch_bytes * (_AHEAD + 1))


def _to_batch(images: torch.Tensor, samples: Sequence[Sample], indices: Sequence[int]) -> Batch:
    """A Batch of images [B,H,W,3] that are stacked already; they are permuted, not copied.

    With NumPy: torch would use OpenMP's threads, which do not exist in a process forked from one
    that had started them, and would wait for them forever.
    """
    counts = [len(sample.boxes) for sample in samples]
    return Batch(
        images=images.permute(0, 3, 1, 2),  # [B,3,H,W] in channels_last memory
        boxes=torch.from_numpy(np.concatenate([sample.boxes for sample in samples])),
        labels=torch.from_numpy(np.concatenate([sample.labels for sample in samples])),
        batch_index=torch.from_numpy(np.repeat(np.arange(len(samples)), counts)),
        indices=list(indices),
        paths=[sample.path for sample in samples],
        original_sizes=[sample.original_size for sample in samples],
        letterboxes=[sample.letterbox for sample in samples],
    )


def _indices(keys: Sequence[Key]) -> list[int]:
    return [index for _, index, _ in keys]


class _Processes:
    """Processes that live as long as their loader and draw one batch after the other."""

    def __init__(self, reader: _BatchReader, workers: int, pin: bool, context: str | None) -> None:
        self._batches: list[list[Key]] = []  # of the next iteration
        self._iterator: Any = None
        self._loader = _QuietLoader(
            reader,
            batch_size=None,
            sampler=self._batches,
            num_workers=workers,
            collate_fn=_same,
            pin_memory=pin,
            worker_init_fn=_start_worker,
            persistent_workers=True,
            prefetch_factor=_AHEAD,
            generator=torch.Generator(),  # its own: the global one must not depend on the loader
            multiprocessing_context=multiprocessing.get_context(context),
        )

    def run(self, batches: list[list[Key]]) -> Iterator[Prepared]:
        """Draw ``batches`` in order."""
        self._batches[:] = batches
        with _signals_held():
            iterator = iter(self._loader)  # the same one every time: it is what owns the processes
        self._iterator = iterator
        for result in iterator:
            if isinstance(result, ImageError):
                raise result
            yield result

    def close(self) -> None:
        """End the processes now.

        If the garbage collector does it, torch's loader may find its queues closed, and waits five
        seconds for each process.
        """
        if self._iterator is not None:
            self._iterator._shutdown_workers()


class _QuietLoader(DataLoader[Prepared | ImageError]):
    """A DataLoader without torch's warning about the number of processes."""

    def check_worker_number_rationality(self) -> None:
        """Does not warn: the number was chosen by Loader or the user."""


class _BatchReader(Dataset[Prepared | ImageError]):
    """The work of a process: keys of a batch -> Batch in shared memory; with a layout, its plan.

    An unreadable image is returned, not raised: an exception would arrive wrapped in a traceback.
    """

    def __init__(self, dataset: DetectionDataset, layout: Layout | None) -> None:
        self._dataset = dataset
        self._layout = layout

    def __getitem__(self, keys: list[Key]) -> Prepared | ImageError:
        if self._layout is not None:
            return plan_batch(self._dataset, self._layout, keys)
        images = _shared_images(len(keys), self._dataset.image_size)
        try:
            pairs = zip(keys, images.numpy(), strict=True)
            samples = [self._dataset.draw(*pair) for pair in pairs]
        except ImageError as error:
            return error
        return _to_batch(images, samples, _indices(keys))


def _shared_images(count: int, side: int) -> torch.Tensor:
    """[count,side,side,3] uint8 to draw into, in memory that other processes can read.

    ``share_memory_()`` would copy, with OpenMP's threads.
    """
    storage = torch.UntypedStorage._new_shared(count * side * side * 3, device="cpu")
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(count, side, side, 3)


def _start_worker(_: int) -> None:
    """One thread per process, because the processes are the parallelism; signals are the trainer's.

    Ctrl-C and `kill` reach the whole process group, but the trainer still needs the batches of the
    step that it finishes before it saves.  So the first SIGTERM is ignored; a second one, by which
    Python ends a worker that hangs, ends it.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ignore_once)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals to this thread, and to the processes that it starts, wait until the context ends.

    A process inherits the mask. It would otherwise be ended by a signal that arrives before
    ``_start_worker`` has run. Windows has no such mask.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_once(signum: int, frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_DFL)


def _same(batch: Any) -> Any:
    return batch
