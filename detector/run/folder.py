"""Run folders: where a command leaves what it made.

``runs/train``, ``runs/train-2``, ...: a taken name is never written into unless told.  A folder
appears when its first file is written, so a command that is refused leaves nothing behind.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ...files.errors import DetError, InputError
from ..options.errors import UsageError
from ..options.shared import CommonConfig

BEST = Path("weights") / "best.safetensors"
LAST = Path("weights") / "last.pt"


class RunError(DetError):
    """A run that can not go on, with what to do in its message."""


class RunNotFound(InputError):
    """No run or checkpoint where the user's words point."""


def check_writable(folder: Path, option: str) -> None:
    """Raise UsageError where nothing can be written into ``folder`` or, if it does not exist, into
    its nearest parent that does.  Tried with a temporary folder, before data are read.

    option: the one that ``folder`` comes from.
    """
    place = folder.absolute()
    while not os.path.lexists(place):
        place = place.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".det-", dir=place):
            pass
    except OSError as error:
        raise UsageError(
            f"{option}={folder}: cannot write in {place} ({error.strerror}); choose another folder"
        ) from error


def new_run_folder(config: CommonConfig, command: str) -> Path:
    """The free folder ``project/name`` (or name-2, name-3, ...) of a command; made.

    Making it is what finds out whether it is free: two runs that start together get one each.
    """
    base = Path(config.project) / (config.name or command)
    base.parent.mkdir(parents=True, exist_ok=True)
    folder, number = base, 1
    while True:
        try:
            folder.mkdir(exist_ok=config.exist_ok)
            return folder
        except FileExistsError:
            if config.exist_ok:  # a file has that name
                raise
            number += 1
            folder = base.with_name(f"{base.name}-{number}")


def newest_run(project: str | Path, wanted: Path = BEST) -> Path:
    """The run folder of ``project`` whose file ``wanted`` is newest.  Raises RunNotFound."""
    found = [path for path in Path(project).glob(f"*/{wanted}") if path.is_file()]
    if not found:
        raise RunNotFound(
            f"no finished run in {Path(project).resolve()}: no */{wanted} there; "
            "train first (det train) or name a checkpoint with model=..."
        )
    newest = max(found, key=lambda path: path.stat().st_mtime)
    return newest.parents[len(wanted.parts) - 1]
