"""Several trials at once, each in a process of its own.

The search stays one process: a thread per worker asks the study for a trial, lets a process train
it and records what came of it.  Where the processes are, only their links know.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from ...files.errors import InputError
from ..run.folder import LAST, RunError
from ..run.log import Log
from ..run.signals import Interrupted, stop_request
from .link import (
    Broken,
    Done,
    Failed,
    Files,
    Link,
    Lost,
    News,
    Order,
    Stopped,
    Warned,
    pack,
    unpack,
)
from .training import Objective, Result, Watch

TRIES = 3
"""A trial whose process dies this often has failed: it is the likely cause."""
POLL = 0.2
"""Seconds between two looks at signals."""
GRACE = 60.0
"""Seconds in which trainings may save after a signal."""


class Halted(Exception):
    """The search ends; the trial stays where it is."""


class Crew:
    """An objective for as many threads as there are workers.

    open_link: starts the process of the worker with this number.  ships: the processes do not see
    the folders of the search, so files are sent.
    """

    def __init__(
        self, open_link: Callable[[int], Link], workers: int, log: Log, *, ships: bool = False
    ) -> None:
        self.workers = workers
        self._open, self._log, self._ships = open_link, log, ships
        self._links: dict[int, Link] = {}
        self._lock = threading.Lock()
        self._halted = False
        self._free = list(range(workers))
        self._opening = 0

    def __call__(self, values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
        with self._lock:
            number = self._free.pop()  # the last one that became free has a process
        try:
            return self._train(number, values, folder, watch)
        finally:
            with self._lock:
                self._free.append(number)
                waits = self._opening > 0
            if waits:
                self._close_idle()

    def _train(self, number: int, values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
        why = ""
        for left in reversed(range(TRIES)):
            try:
                return self._converse(self._link(number), values, folder, watch)
            except Lost as lost:
                why = str(lost)
                self._drop(number)
                if left:
                    self._log.warn(f"{_name(folder)}: {why}; it is run again")
        raise RunError(f"its process died {TRIES} times, the last time: {why}")

    def _converse(
        self, link: Link, values: Mapping[str, Any], folder: Path, watch: Watch
    ) -> Result:
        """Give the order, answer the news, and take the result."""
        known = (folder / LAST).is_file()
        files: Files | None = (pack(folder) if known else {}) if self._ships else None
        answer = link.talk(Order(values, folder, files))
        while isinstance(answer, News | Warned):
            reply = None
            if isinstance(answer, News):
                unpack(answer.files, folder)
                reply = watch(answer.epoch, answer.value)
            else:
                self._log.once([answer.text])
            answer = link.talk(reply)
        return self._end(answer, folder)

    def _end(self, answer: Done | Failed | Stopped | Broken, folder: Path) -> Result:
        if isinstance(answer, Done | Failed):
            unpack(answer.files, folder)
        if isinstance(answer, Done):
            return answer.result
        if isinstance(answer, Failed):
            raise (InputError if answer.wrong else RunError)(answer.reason)
        if isinstance(answer, Stopped):
            raise Halted
        raise RuntimeError(f"{_name(folder)}, in its process:\n{answer.text}")

    def _link(self, number: int) -> Link:
        with self._lock:
            link = self._links.get(number)
        if link is None:
            link = self._opened(number)
            with self._lock:
                self._links[number] = link
        if self._halted:
            link.close()
            raise Halted
        return link

    def _opened(self, number: int) -> Link:
        """A new process.  On a cluster that has lost a node it waits for room, which nobody may
        hold who has nothing to do."""
        with self._lock:
            self._opening += 1
        try:
            self._close_idle()
            return self._open(number)
        finally:
            with self._lock:
                self._opening -= 1

    def _close_idle(self) -> None:
        with self._lock:
            idle = [self._links.pop(number, None) for number in self._free]
        for link in idle:
            if link is not None:
                link.close()

    def _drop(self, number: int) -> None:
        with self._lock:
            link = self._links.pop(number, None)
        if link is not None:
            link.close()
        if self._halted:
            raise Halted

    def stop(self) -> None:
        """Let all trainings save and end soon."""
        self._halted = True
        for link in self._known():
            link.stop()

    def close(self) -> None:
        """End all processes."""
        self._halted = True
        for link in self._known():
            link.close()

    def _known(self) -> list[Link]:
        with self._lock:
            return list(self._links.values())


def _name(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


def run_all(objective: Objective, works: Sequence[Callable[[], None]]) -> None:
    """Do ``works``: as many at once as ``objective`` has workers, else one after the other.

    The first error ends all.  Raises Interrupted after a signal, when the trainings have saved.
    """
    if not isinstance(objective, Crew):
        for work in works:
            work()
        return
    with stop_request() as stop, _threads(objective) as threads:
        waiting: set[Future[None]] = {threads.submit(work) for work in works}
        while waiting:
            done, waiting = wait(waiting, timeout=POLL, return_when=FIRST_COMPLETED)
            if stop.signum is not None:
                objective.stop()
                wait(waiting, timeout=GRACE)
                raise Interrupted(stop.signum, "stopped")
            for future in done:
                future.result()


@contextlib.contextmanager
def _threads(crew: Crew) -> Iterator[ThreadPoolExecutor]:
    """Threads that end with the context: where it is left by an error, so do the processes."""
    threads = ThreadPoolExecutor(crew.workers, thread_name_prefix="trial")
    try:
        yield threads
    except BaseException:
        crew.close()
        raise
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
