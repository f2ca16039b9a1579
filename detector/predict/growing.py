"""A text file that is written row by row and gets its name when it is complete."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import IO

from ...files.atomic import naming, temporary_name


class GrowingFile:
    """A text that grows on disk row by row, so that memory stays flat."""

    def __init__(self, path: Path, start: str = "", between: str = "", end: str = "") -> None:
        """path: the name for messages; it may be taken when the text is finished.  start, between,
        end: what is written before the first row, between two and after the last."""
        self._path = path
        self._part = temporary_name(path)
        with naming(path):
            self._file: IO[str] = open(self._part, "w", encoding="utf-8")  # noqa: SIM115
        self._start, self._between, self._end = start, between, end
        self._begun = False

    def append(self, row: str) -> None:
        with naming(self._path):
            self._file.write((self._between if self._begun else self._start) + row)
        self._begun = True

    def close(self, path: Path) -> None:
        """Finish the text and give it its name."""
        with naming(path):
            self._file.write(self._end if self._begun else self._start + self._end)
            self._file.close()
            self._part.replace(path)

    def discard(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)
