"""Opening files without waiting: a pipe or device in the place of a file would wait forever."""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from pathlib import Path
from typing import BinaryIO


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading.

    Never waits.  Raises OSError: for a pipe, device, socket or folder with a reason of its own.
    """
    # Without O_NONBLOCK, opening a pipe waits until somebody writes into it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except ValueError:  # a zero byte in the name
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):  # a socket
            raise _not_regular(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return os.fdopen(descriptor, "rb")


def read_regular(path: str | Path, limit: int = -1) -> bytes:
    """The bytes of a regular file, at most ``limit`` of them; raises OSError as open_regular."""
    with open_regular(path) as file:
        return file.read(limit)


def open_to_append(path: str | Path) -> FileIO:
    """Open a file for appending, unbuffered, or make it.  Never waits.

    Raises OSError: for a pipe or socket with a reason of its own, because nobody may be reading.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):
            raise _not_regular(path) from None
        raise
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        os.close(descriptor)
        raise _not_regular(path)
    return os.fdopen(descriptor, "ab", buffering=0)


def _not_regular(path: str | Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file (a pipe, device, socket or folder)", str(path))
