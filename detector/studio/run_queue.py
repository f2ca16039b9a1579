"""Trainings that wait for one another.

Each is a file in the hidden folder ``runs/.queue``.  A process of its own takes them in turn: it
goes on when the studio is closed or killed, and ends when nothing waits.  A new studio starts it
again where something was left, for example after a power cut.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ...files.atomic import write_atomically
from ...files.json_text import read_note
from ...files.text import one_line
from .asked import BadRequest, NotThere
from .start import LAST_BYTES, printed_file, run, tail_of

FOLDER = "runs/.queue"
WAITING, RUNNING, FAILED = "waiting", "running", "failed"
MOST = 1000
POLL = 1.0
"""Seconds between two looks at a training that another process has started."""


@dataclass(frozen=True)
class Entry:
    """words: of det train, checked.  state: WAITING, RUNNING or FAILED.  pid, life: which process
    trains (``life_of``).  message: why it failed."""

    number: int
    words: tuple[str, ...]
    state: str = WAITING
    pid: int = 0
    message: str = ""
    life: str = ""


class RunQueue:
    """The queue of an opened folder.  root: that folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / FOLDER

    def entries(self) -> list[Entry]:
        """What is in the queue, the first first."""
        found = []
        for file in sorted(self.folder.glob("*.json")):
            number, _, state = file.stem.partition(".")
            note = read_note(file)
            words = note.get("words")
            if number.isdecimal() and isinstance(words, list) and all(map(_is_text, words)):
                message = one_line(str(note.get("message", "")))
                pid = note.get("pid") if type(note.get("pid")) is int else 0
                life = str(note.get("life", ""))
                found.append(Entry(int(number), tuple(words), state, pid or 0, message, life))
        return sorted(found, key=lambda one: one.number)

    def add(self, words: Sequence[str]) -> Entry:
        """Put a training at the end, and see that a process takes it.

        Raises BadRequest where the queue is full, and OSError.
        """
        entries = self.entries()
        if len(entries) >= MOST:
            raise BadRequest(f"the queue holds {MOST} trainings: remove some")
        entry = Entry(1 + max((one.number for one in entries), default=0), tuple(words))
        self._write(entry)
        self.go_on()
        return entry

    def remove(self, number: int) -> None:
        """Take a training out that is not running.  Raises NotThere, BadRequest."""
        for state in (WAITING, FAILED):
            with contextlib.suppress(FileNotFoundError):
                self._file(number, state).unlink()
                return
        if self._file(number, RUNNING).exists():
            raise BadRequest("this training has begun: stop it in the list of runs")
        raise NotThere(f"number={number}: is not in the queue")

    def go_on(self) -> None:
        """Start the process that takes what waits.  Where there is one already, it ends at once."""
        if any(entry.state != FAILED for entry in self.entries()):
            subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import take_all; take_all()"],
                cwd=self.root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def take_all(self) -> None:
        """Run what waits, one after the other, until nothing is left."""
        while self._has_work():
            lock = FileLock(self.folder / ".lock", blocking=False)
            try:
                with lock:
                    while entry := self._next():
                        self._take(entry)
            except Timeout:
                return  # another process does it

    def _has_work(self) -> bool:
        return any(entry.state != FAILED for entry in self.entries())

    def _next(self) -> Entry | None:
        entries = [entry for entry in self.entries() if entry.state != FAILED]
        begun = [entry for entry in entries if entry.state == RUNNING]
        return next(iter(begun or entries), None)

    def _take(self, entry: Entry) -> None:
        """Run a training to its end; one that was begun by a process that was killed is waited for,
        or begun again where it never started."""
        if entry.state == RUNNING and entry.pid:
            while entry.life and life_of(entry.pid) == entry.life:
                time.sleep(POLL)
            self._file(entry.number, RUNNING).unlink(missing_ok=True)
            return
        if entry.state == WAITING:
            try:
                os.rename(self._file(entry.number, WAITING), self._file(entry.number, RUNNING))
            except FileNotFoundError:
                return  # it was removed
        printed = printed_file()
        process = run(self.root, "train", entry.words, printed)
        life = life_of(process.pid)
        self._write(Entry(entry.number, entry.words, RUNNING, process.pid, "", life))
        if process.wait():
            message = tail_of(printed, LAST_BYTES) or [f"ended with {process.returncode}"]
            self._write(Entry(entry.number, entry.words, FAILED, 0, message[-1]))
        self._file(entry.number, RUNNING).unlink(missing_ok=True)

    def _file(self, number: int, state: str) -> Path:
        return self.folder / f"{number:06d}.{state}.json"

    def _write(self, entry: Entry) -> None:
        text = json.dumps(asdict(entry)).encode()
        write_atomically(self._file(entry.number, entry.state), lambda file: file.write(text))


def take_all() -> None:
    """Run the queue of the current folder: what the process of a queue does."""
    RunQueue(Path.cwd()).take_all()


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def life_of(pid: int) -> str:
    """What tells a process from a later one with the same number; "" where it has ended.

    On Linux its time of start.  Elsewhere only the number counts.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]  # proc(5): state, starttime
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return ""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return ""
    except OSError:
        pass
    return "alive"
