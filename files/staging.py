"""A hidden folder to write into before anything gets its name; what killed processes left of such
folders is removed."""

from __future__ import annotations

import contextlib
import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

STAGING = ".writing"
"""Ending of the name of such a folder."""


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A hidden folder beside ``target`` to write into; removed at the end.

    It is locked while it is in use.  Folders that a killed process has left for ``target`` are not,
    and are removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    start = f".{target.name[:40]}."
    for left in target.parent.glob(f"{glob.escape(start)}*{STAGING}"):
        with contextlib.suppress(Timeout, OSError), lock_of(left):
            shutil.rmtree(left)
    with (
        tempfile.TemporaryDirectory(STAGING, start, target.parent) as folder,
        lock_of(Path(folder)),
    ):
        yield Path(folder)


def lock_of(folder: Path) -> FileLock:
    """The lock of a staging folder: a file in it.  It ends with the process; Timeout is raised at
    once where another process holds it."""
    return FileLock(folder / ".lock", blocking=False)
