"""The owner of a run folder: the one process that trains in it.

A lock that the system releases when the process ends, however it ends; a note beside it says who
holds it.  File systems without locks have no owners.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ...files.atomic import write_atomically
from ...files.errors import InputError
from ...files.json_text import read_note
from ...files.text import one_line

LOCK = ".owner.lock"
NOTE = ".owner.json"
PATIENCE = 20.0
"""Seconds to wait for the loader processes of an owner that was killed: they hold its lock until
they notice."""


class FolderInUse(InputError):
    """Another process trains in this run folder."""


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Own ``folder`` inside the context.  Raises FolderInUse, at once while the owner lives."""
    lock = FileLock(folder / LOCK)
    if not _acquire(lock, 0) and (_alive(_read(folder)) or not _acquire(lock, PATIENCE)):
        raise FolderInUse(in_use(folder))
    try:
        _write(folder)
        yield
        (folder / NOTE).unlink(missing_ok=True)
    finally:
        lock.release()


def refuse_owned(folder: Path) -> None:
    """Raise FolderInUse where another process trains in ``folder``."""
    if (folder / LOCK).exists():
        lock = FileLock(folder / LOCK)
        if not _acquire(lock, 0) and _alive(_read(folder)):
            raise FolderInUse(in_use(folder))
        lock.release()


def owner_of(folder: Path) -> dict[str, Any]:
    """The note (pid, host, since) of the process that trains in ``folder``; {} where none does.

    The lock is only tried where a note names a process that lives: a run that begins has no note
    yet, and finds its lock free.
    """
    note = _read(folder)
    if not note or not _alive(note):
        return {}
    lock = FileLock(folder / LOCK)
    if _acquire(lock, 0):
        lock.release()
        return {}
    return note


def in_use(folder: Path) -> str:
    """Who holds the folder, and what to do."""
    note = _read(folder)
    who = "another process"
    if note:
        who = f"process {note.get('pid')} on {note.get('host')} since {note.get('since')}"
    return one_line(
        f"{folder} is in use by {who}: wait until that run has ended, or stop it (kill "
        f"{note.get('pid', 'PID')}), and try again"
    )


def _acquire(lock: FileLock, seconds: float) -> bool:
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    except (OSError, NotImplementedError):  # no locks here, or a folder that cannot be written
        return True
    return True


def _write(folder: Path) -> None:
    about = {"pid": os.getpid(), "host": socket.gethostname()}
    about["since"] = time.strftime("%Y-%m-%d %H:%M:%S")
    with contextlib.suppress(OSError):  # a full disk is reported where something is lost
        write_atomically(folder / NOTE, lambda file: file.write(json.dumps(about).encode()))


def _read(folder: Path) -> dict[str, Any]:
    return read_note(folder / NOTE)


def _alive(note: dict[str, Any]) -> bool:
    """Whether the process of a note may still run; True where that cannot be known."""
    pid = note.get("pid")
    if note.get("host") != socket.gethostname() or type(pid) is not int or pid < 1:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
