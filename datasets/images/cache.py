"""Decoded images, kept: uint8 RGB with the long side at image_size, in memory or in a mapped file.

Decoding takes several times as long as augmentation, and a mosaic needs four images.  The sizes of
all images are known from the records, so every image has its place from the start: one flat file
with a flag per image, then their pixels.  The first process that needs an image decodes it and
stores it there; loader processes share the file.  If two decode the same image at once, they write
the same bytes, so no lock is needed.

A cache on disk gets its final name when every image is in it; the name holds a hash of the data
set's fingerprint and of the layout.  A cache that no run has used for a month is removed when a new
one is made.  Images that do not fit the budget are decoded every time.

Not supported: sharing a cache between the ranks of a run (each has its own, and its part of the
memory budget), and caches that grow.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...files.limits import available_memory
from ...files.shared_memory import SharedFile
from ..formats.record import Record
from .image import scaled_size
from .input_size import InputSize

MODES = ("auto", "ram", "disk", "none")
_LAYOUT = 3  # raise when the file's layout, or the way images are decoded and scaled, changes
_PAGE = 4096
_SHARE = 0.25  # of the available memory, unless a budget is given ...
_RAM_SHARE = 0.75  # ... and with cache=ram
_KEEP_FREE = 1.1  # a file on disk is made if this times its size is free
_UNUSED = 30 * 86400.0  # seconds after which a file that no run has opened may be removed
_RESIDENT = 256 * 2**20  # bytes of a file on disk that stay mapped into a process


class ImageCache:
    """The decoded images of a data set, by index.

    records: the images (only their sizes are used).  image_size: what images are scaled to just
    fit, a side or (h, w).  mode:
    ``ram``, ``disk`` (needs a folder), ``none``, or ``auto``: ram if all images fit the budget,
    else disk if a folder with enough space is given, else as many as fit in ram.  folder: where a
    cache on disk is stored; never the user's data folder.  fingerprint: changes whenever the images
    do.  budget: bytes of memory; None: see ``memory_budget``.

    memory: bytes of memory that the full cache takes.  Raises ValueError for an unknown mode, or
    for disk without a folder.
    """

    def __init__(
        self,
        records: Sequence[Record],
        image_size: int | tuple[int, int],
        *,
        mode: str = "auto",
        folder: Path | None = None,
        fingerprint: str = "",
        budget: int | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"cache={mode}: expected one of {', '.join(MODES)}")
        if mode == "disk" and folder is None:
            raise ValueError("cache=disk needs a folder for the decoded images")
        self.input = InputSize.of(image_size)
        sizes = [scaled_size(record.size, image_size) for record in records]
        self._sizes = np.array(sizes, np.int64).reshape(-1, 2)
        self._lengths = self._sizes.prod(1) * 3  # bytes
        self._offsets = np.full(len(self._sizes), -1, np.int64)
        self._file: SharedFile | None = None
        self._touched = 0
        self._note = "no cache, images are decoded each time they are needed"
        if mode != "none" and len(self._sizes):
            self._choose(
                mode, folder, fingerprint, memory_budget(mode) if budget is None else budget
            )

    @property
    def memory(self) -> int:
        file = self._file
        return file.size if file is not None and file.path is None else 0

    def _choose(self, mode: str, folder: Path | None, fingerprint: str, budget: int) -> None:
        whole = self._lay_out(np.arange(len(self)))
        if mode != "disk" and whole <= budget:
            self._note = self._open_in_memory(whole) or f"in memory, {_bytes(whole)}"
            return
        trouble = ""
        if mode != "ram" and folder is not None:
            trouble = self._open_on_disk(folder / self._name(fingerprint), whole)
            if self._file is not None:
                return
        held = np.random.default_rng(0).permutation(len(self))
        held = held[_PAGE + len(self) + np.cumsum(self._lengths[held]) <= budget]
        self._offsets[:] = -1
        if not len(held):
            self._note += f" (all of them are {_bytes(whole)}, the budget is {_bytes(budget)})"
            return
        size = self._lay_out(np.sort(held))
        share = 100 * len(held) // len(self)
        self._note = self._open_in_memory(size) or (
            f"in memory, {_bytes(size)}: {share} % of the images, "
            f"all of them are {_bytes(whole)}{trouble}"
        )

    def _open_in_memory(self, size: int) -> str:
        """Make the file; returns the note where the system refuses it, else an empty text."""
        try:
            self._file = SharedFile(size)
        except OSError as error:
            self._offsets[:] = -1
            return f"{self._note} (no shared memory of {_bytes(size)}: {error.strerror})"
        return ""

    def _lay_out(self, held: np.ndarray) -> int:
        """Place the images ``held`` in the file; returns its size in bytes."""
        start = -(-len(self) // _PAGE) * _PAGE  # flags first, then pixels from a page's start
        ends = start + np.cumsum(self._lengths[held])
        self._offsets[held] = ends - self._lengths[held]
        return int(ends[-1])

    def _open_on_disk(self, path: Path, size: int) -> str:
        """Open or make the file; returns the reason if that is impossible, else an empty text."""
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                _remove_unused(path.parent)
                free = shutil.disk_usage(path.parent).free
                if free < size * _KEEP_FREE:
                    return f", {path.parent} has only {_bytes(free)} free"
            self._file = SharedFile(size, path)
            if self._file.finished:
                with contextlib.suppress(OSError):  # somebody else's cache is only read
                    os.utime(path)
        except OSError as error:
            return f", {path.parent} cannot be used ({error.strerror})"
        ready = "complete since an earlier run" if self._file.finished else "filled on the way"
        self._note = f"on disk, {_bytes(size)} in {path.parent}, {ready}"
        return ""

    def _name(self, fingerprint: str) -> str:
        layout = f"{_LAYOUT} {self.input} {fingerprint}".encode() + self._sizes.tobytes()
        digest = hashlib.blake2b(layout, digest_size=12).hexdigest()
        return f"images-{self.input}-{digest}.rgb"

    def __len__(self) -> int:
        return len(self._sizes)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of a kept image."""
        height, width = self._sizes[index].tolist()
        return height, width

    def get(self, index: int) -> np.ndarray | None:
        """[H,W,3] uint8 RGB, read-only; None if the image is not kept (yet)."""
        if self._file is None or self._offsets[index] < 0 or not self._file.data[index]:
            return None
        image = self._place(self._file, index)
        image.flags.writeable = False
        return image

    def has_place(self, index: int) -> bool:
        """Whether an image can be kept and is not kept yet."""
        file = self._file
        if file is None or file.finished or self._offsets[index] < 0:
            return False
        return not file.data[index]

    def put(self, index: int, image: np.ndarray) -> None:
        """Keep ``image`` [H,W,3] uint8 if it has a place; ValueError for an unexpected size."""
        height, width = self.size(index)
        if image.shape != (height, width, 3):
            got = f"{image.shape[1]} x {image.shape[0]}"
            raise ValueError(f"image {index}: expected {width} x {height} px, got {got}")
        file = self._file
        if file is None or file.finished or self._offsets[index] < 0:
            return
        self._place(file, index)[:] = image
        file.data[index] = 1
        if file.path is not None and file.data[: len(self)].all():
            file.publish()

    def _place(self, file: SharedFile, index: int) -> np.ndarray:
        start, length = int(self._offsets[index]), int(self._lengths[index])
        self._touched += length
        if self._touched > _RESIDENT:  # a file larger than memory must not look like a leak
            file.forget_pages()
            self._touched = 0
        return file.data[start : start + length].reshape(*self.size(index), 3)

    def describe(self) -> str:
        """What was chosen, in one line: ``in memory, 64 MB`` or ``on disk, 9.1 GB in ...``."""
        return self._note


def _remove_unused(folder: Path) -> None:
    """Remove caches that no run has opened for a month."""
    for file in folder.glob("images-*.rgb"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > _UNUSED:
                file.unlink()


def memory_budget(mode: str, local_ranks: int = 1) -> int:
    """Bytes of memory that the decoded images of all caches of a process may take together.

    local_ranks: processes on this machine, each of which keeps images in its own memory.
    """
    return int(available_memory() * (_RAM_SHARE if mode == "ram" else _SHARE)) // local_ranks


def _bytes(count: int) -> str:
    """A size to show: 830 kB, 64 MB, 9.1 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            value = count / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{count / 1e3:.0f} kB"
