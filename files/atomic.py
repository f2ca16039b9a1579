"""Files that get their final name only when they are complete."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .text import fitting_name


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Call ``write`` on a temporary file beside ``path``, flush it to the disk and rename it over
    ``path``.  On any error the old file stays and nothing is left behind."""
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_beside(path) as temporary:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError inside says that it is about ``path``: a write that failed names no file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


class Remembering:
    """A file whose first failed write is kept, for writers that report it as something else."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write, and keep the error."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        """Pass on what is buffered."""
        self._file.flush()


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Name of a new file in the folder of ``path``; removed at the end if it is still there."""
    temporary = path.with_name(f".{fitting_name(path.name)}.{secrets.token_hex(4)}.partial")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder or below."""
    for path in folder.rglob(".*.partial"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}\.partial", path.name):
            path.unlink(missing_ok=True)
