"""Files that get their final name only when they are complete.

A full disk, a quota or a broken mount ends a write with an OSError that names the file; the old
file stays, and nothing is left behind.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .regular import open_to_append
from .text import fitting_name

NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems without fsync answer (FUSE, network mounts)."""


def write_atomically(
    path: Path, write: Callable[[IO[bytes]], Any], *, durable: bool = True
) -> None:
    """Call ``write`` on a temporary file beside ``path`` and rename it over ``path``.

    durable: flush it to the disk before that, so that it survives a power cut; not for files that
    come by the thousand.  Raises OSError with the name of the file; the old file stays then, and
    nothing is left behind.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_beside(path) as temporary:
            with _Checked(temporary) as file:
                file.run(write)
                if durable:
                    sync(file.fileno())
            os.replace(temporary, path)
    if durable:
        sync_folder(path.parent)  # the rename itself must survive a power cut


def write_bytes(path: Path, data: bytes) -> None:
    """Write one of many files: atomically, but not flushed to the disk."""
    write_atomically(path, lambda file: file.write(data), durable=False)


class _Checked(io.FileIO):
    """A new file whose every write is whole or raises.

    Libraries that write through it may turn an OSError into one of their own ("unexpected pos" of
    torch), or drop it; ``run`` raises the first one.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w")
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view):  # a disk that is nearly full takes a part
                done += super().write(view[done:]) or 0
        except OSError as error:
            self._error = self._error or error
            raise
        return done

    def run(self, write: Callable[[IO[bytes]], Any]) -> None:
        """Call ``write`` on this file, with a buffer before it."""
        buffer = io.BufferedWriter(self, 1 << 16)
        try:
            write(buffer)
            buffer.flush()
            buffer.detach()
        except Exception as error:
            with contextlib.suppress(OSError, ValueError):
                buffer.close()
            if self._error is not None:
                raise self._error from error
            raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError raised inside names ``path``: that of a failed write names no file, or a temporary
    one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def append_whole(path: Path, data: bytes) -> None:
    """Append ``data`` to a file, or leave it as it was and raise OSError with its name."""
    with naming(path), open_to_append(path) as file:
        start = file.tell()
        try:
            done = 0
            while done < len(data):
                done += file.write(data[done:]) or 0
        except OSError:
            file.truncate(start)
            raise


def sync(descriptor: int) -> None:
    """Flush an open file or folder to the disk; not where the file system knows no fsync."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk, where folders can be opened and flushed."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows, and folders that may be written but not listed
        return
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Name of a new file in the folder of ``path``; removed at the end if it is still there."""
    temporary = temporary_name(path)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path, suffix: str = "") -> Path:
    """A new hidden name beside ``path``, which ``remove_partials`` knows."""
    return path.with_name(f".{fitting_name(path.name)}.{secrets.token_hex(4)}.partial{suffix}")


def remove_partials(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder or below."""
    for path in folder.rglob(".*.partial*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}\.partial(\.\w+)?", path.name):
            path.unlink(missing_ok=True)
