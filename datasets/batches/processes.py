"""Loader processes: each prepares whole batches ahead of time, in memory that processes share.

Ctrl-C, SIGTERM and SIGHUP are for the trainer; its loader processes finish what it still needs.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..images.image import ImageError
from ..images.input_size import Size
from ..nouns import Batch, Sample
from .dataset import DetectionDataset, Key
from .device_plan import Layout, PlannedBatch, plan_batch

AHEAD = 2
"""Batches that each process prepares ahead."""
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # those that the trainer answers, not its workers
_SIGNALS = {getattr(signal, name) for name in _NAMES if hasattr(signal, name)}

Prepared = Batch | PlannedBatch
"""What threads and processes prepare."""


class Job(NamedTuple):
    """A batch to be prepared: its samples, and (height, width) of their input."""

    keys: list[Key]
    shape: Size


class Processes:
    """Processes that live as long as their loader and draw one batch after the other."""

    def __init__(self, reader: BatchReader, workers: int, pin: bool, context: str | None) -> None:
        self._batches: list[Job] = []  # of the next iteration
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
            prefetch_factor=AHEAD,
            generator=torch.Generator(),  # its own: the global one must not depend on the loader
            multiprocessing_context=multiprocessing.get_context(context),
        )

    def run(self, batches: list[Job]) -> Iterator[Prepared]:
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


class BatchReader(Dataset[Prepared | ImageError]):
    """The work of a process: a Job -> Batch in shared memory; with a layout, its plan.

    An unreadable image is returned, not raised: an exception would arrive wrapped in a traceback.
    """

    def __init__(self, dataset: DetectionDataset, layout: Layout | None) -> None:
        self._dataset = dataset
        self._layout = layout

    def __getitem__(self, job: Job) -> Prepared | ImageError:
        keys, shape = job
        if self._layout is not None:
            return plan_batch(self._dataset, self._layout, keys, shape)
        images = _shared_images(len(keys), shape)
        try:
            pairs = zip(keys, images.numpy(), strict=True)
            samples = [self._dataset.draw(*pair) for pair in pairs]
        except ImageError as error:
            return error
        return to_batch(images, samples, sample_indices(keys), self._dataset.lost)


def _shared_images(count: int, shape: Size) -> torch.Tensor:
    """[count,H,W,3] uint8 to draw into, in memory that other processes can read.

    ``share_memory_()`` would copy, with OpenMP's threads.
    """
    storage = torch.UntypedStorage._new_shared(count * math.prod(shape) * 3, device="cpu")
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(count, *shape, 3)


def _start_worker(_: int) -> None:
    """One thread per process, because the processes are the parallelism; the trainer handles
    signals.

    Ctrl-C, a closed terminal and `kill` reach the whole process group, but the trainer still needs
    the batches of the step that it finishes before it saves.  So the first SIGTERM is ignored; a
    second one, by which Python ends a worker that hangs, ends it.
    """
    cv2.setNumThreads(0)
    for number in _SIGNALS - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
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


def to_batch(
    images: torch.Tensor,
    samples: Sequence[Sample],
    indices: Sequence[int],
    lost: Mapping[int, str],
) -> Batch:
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
        lost=dict(lost),
    )


def sample_indices(keys: Sequence[Key]) -> list[int]:
    """Which images of the data set the keys mean."""
    return [index for _, index, _ in keys]
