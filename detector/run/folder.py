"""Run folders: where a command writes its results.

``runs/train``, ``runs/train-2``, ...: an existing folder is only written into with
``exist_ok=True``.  A folder is made when its first file is written, so a command that is refused
leaves nothing behind.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...files.errors import DetError, InputError
from ...files.json_text import read_note
from ..options.errors import UsageError
from ..options.shared import CommonConfig
from .owner import refuse_owned

BEST = Path("weights") / "best.safetensors"
LAST = Path("weights") / "last.pt"
PAGE = "report.html"
"""The last file that a run writes."""


class RunError(DetError):
    """A run that cannot continue; the message says what to do."""


class RunFinished(DetError):
    """A run that has nothing left to do, which is no failure."""

    exit_code = 0


class RunNotFound(InputError):
    """There is no run or checkpoint where the user's options point."""


def check_writable(folder: Path, option: str) -> None:
    """Raise UsageError where nothing can be written into ``folder`` or, if it does not exist, into
    its nearest parent that does.  Tried with a temporary folder, before data are read.

    option: the one that ``folder`` comes from.
    """
    import tempfile

    parent = folder.absolute()
    while not os.path.lexists(parent):
        parent = parent.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".det-", dir=parent):
            pass
    except OSError as error:
        raise UsageError(
            f"{option}={folder}: cannot write in {parent} ({error.strerror}); choose another folder"
        ) from error


def new_run_folder(config: CommonConfig, command: str) -> Path:
    """Make the new folder ``project/name`` (or name-2, name-3, ...) of a command.

    A name is tested by making the folder: two runs that start together get one each.
    """
    base = Path(config.project) / (config.name or command)
    base.parent.mkdir(parents=True, exist_ok=True)
    folder, number = base, 1
    while True:
        try:
            folder.mkdir(exist_ok=config.exist_ok)
            refuse_owned(folder)
            return folder
        except FileExistsError:
            if config.exist_ok:  # a file has this name
                raise
            number += 1
            folder = base.with_name(f"{base.name}-{number}")


def is_finished(folder: Path) -> bool:
    """Whether the training of a run folder went to its end: it has results, and was not stopped."""
    return not read_note(folder / "results.json").get("stopped", True)


def find_state(resume: bool | str | None, project: str, state: str, what: str) -> Path:
    """The folder that ``resume=`` names of what is no single run, or the newest one of ``project``.

    state: a file in it.  what: a word for it in messages.  Raises RunNotFound.
    """
    if isinstance(resume, str):
        folder = Path(resume)
        if not (folder / state).is_file():
            raise RunNotFound(f"resume={resume}: there is no {what}, no {folder / state}")
        return folder
    found = list(Path(project).glob(f"*/{state}"))
    if not found:
        raise RunNotFound(f"no {what} in {Path(project).resolve()}: no */{state} there")
    return max(found, key=lambda path: path.stat().st_mtime).parent


def folds_in(model: str | None) -> list[Path]:
    """The runs of a folder of ``det train folds=``; none where it is something else."""
    folder = Path(model or "")
    if (folder / BEST).is_file():
        return []
    return sorted(path.parents[1] for path in folder.glob(f"fold*/{BEST}"))


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
