"""A file of fixed size mapped into memory and shared by processes, forked or spawned.

Without a path it lives in memory only (no name, gone with its last process, not bound by the size
of /dev/shm).  With a path it is made under a temporary name and ``publish`` gives it the final
one, so that a file with a final name is whole; an unfinished one is removed with the process that
made it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np

if sys.platform != "win32":
    import fcntl

PART = ".part"
"""Ending of the name of an unfinished file."""
_STALE = 86400.0  # seconds after which one without writes is removed, where no lock tells


class SharedFile:
    """``data``: [size] uint8, the mapped file, writable unless a finished file was opened."""

    data: np.ndarray

    def __init__(self, size: int, path: Path | None = None) -> None:
        """A file of ``size`` zeros; with a path, the finished file there if it is of that size.

        Raises OSError where the file cannot be made, ENOSPC included.
        """
        self.size = size
        self.path = path
        self.finished = path is not None and path.is_file() and path.stat().st_size == size
        self._part: Path | None = None
        if path is None:
            descriptor = _unnamed()
            os.ftruncate(descriptor, size)
        elif self.finished:
            descriptor = os.open(path, os.O_RDONLY)
        else:
            descriptor = self._make_part(path)
        self._map(descriptor)

    def _make_part(self, path: Path) -> int:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent, path.suffix)
        descriptor, name = tempfile.mkstemp(PART, f"{path.name}.", path.parent)
        self._part = Path(name)
        _lock(descriptor)
        weakref.finalize(self, _remove, self._part, os.getpid())
        # Reserve the room now: running out of it later would kill the process with a bus error.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, self.size)
        os.ftruncate(descriptor, self.size)
        return descriptor

    def _map(self, descriptor: int) -> None:
        access = mmap.ACCESS_READ if self.finished else mmap.ACCESS_WRITE
        self._descriptor = descriptor
        self._mapping = mmap.mmap(descriptor, self.size, access=access)
        self.data = np.frombuffer(self._mapping, np.uint8)
        weakref.finalize(self, os.close, descriptor)

    def publish(self) -> None:
        """Give a complete file its final name; the first process does it."""
        if self.path is None or self._part is None:
            return
        self._mapping.flush()
        try:
            os.replace(self._part, self.path)
        except FileNotFoundError:  # another process has just done it
            self._part = None

    def forget_pages(self) -> None:
        """Unmap what this process touched so far; the kernel keeps it in its file cache."""
        if self.path is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapping.madvise(mmap.MADV_DONTNEED)

    def __getstate__(self) -> dict[str, Any]:
        from multiprocessing.reduction import DupFd  # not there on every platform

        state = dict(self.__dict__, _descriptor=DupFd(self._descriptor))
        return {name: state[name] for name in state if name not in ("data", "_mapping")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map(state["_descriptor"].detach())


def _unnamed() -> int:
    """Descriptor of a new file in memory, else of an unnamed temporary file."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("images", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _remove(part: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child must not remove what its parent is writing
        part.unlink(missing_ok=True)


def remove_abandoned(folder: Path, suffix: str) -> None:
    """Remove the unfinished files for names that end with ``suffix`` whose processes have ended:
    they are locked as long as a process has them mapped."""
    for part in folder.glob(f"*{suffix}.*{PART}"):
        with contextlib.suppress(OSError):
            descriptor = os.open(part, os.O_RDWR)
            try:
                if _lock(descriptor):
                    part.unlink()
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock an open file until the last process closes it; False where another one holds the lock.
    Windows refuses to remove a file that is open."""
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return time.time() - os.fstat(descriptor).st_mtime > _STALE
    return True
