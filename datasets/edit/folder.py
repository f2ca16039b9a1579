"""A folder that appears under its name when everything in it is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...files.staging import staging
from ..sets.dataset import DatasetError

IMAGES = ("link", "copy", "none")
"""What becomes of the images: hard links where the disk allows them, copies, or left out."""


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into; it is renamed to ``out`` at the end.

    After an error nothing is left behind.  Raises DatasetError if ``out`` exists and is not empty.
    """
    out = Path(os.path.abspath(out.expanduser()))
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise DatasetError(f"out: {out} exists; name a new or an empty folder")
    with staging(out) as folder:
        new = folder / "new"
        new.mkdir()
        yield new
        if out.is_dir():
            out.rmdir()
        os.replace(new, out)


def place_file(source: Path, target: Path, *, copy: bool) -> bool:
    """Put an image at ``target``; True if it was linked, False if it was copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    real = source.resolve()
    if not copy:
        try:
            os.link(real, target)
            return True
        except OSError:  # another disk, or one without links
            pass
    shutil.copyfile(real, target)
    return False
