"""The conversation between a search and the process in which a trial trains.

The search sends an Order.  The other side answers with News after each epoch and with Warned, and
waits for a reply to each; its last answer is Done, Failed, Stopped or Broken.  The messages are the
same whether the process runs on this machine (process.py) or on a Ray cluster (ray_cluster.py).
"""

from __future__ import annotations

import contextlib
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ...files.atomic import write_bytes
from ...files.errors import InputError
from ..run.folder import LAST
from ..run.log import Log
from ..run.signals import Interrupted
from .training import FAILURES, Objective, Result, Watch, reason_of

Files = Mapping[str, bytes]
"""Paths relative to a run folder -> contents."""
REST = 20.0
"""Checkpoints are sent after an epoch if sending the last ones took less than 1/20 of the time
since then."""


@dataclass(frozen=True)
class Order:
    """A trial to train.  folder: its run folder.  files: its content so far, where the other side
    does not see that folder; None where it does."""

    values: Mapping[str, Any]
    folder: Path
    files: Files | None = None


@dataclass(frozen=True)
class News:
    """An epoch is over.  value: the best AP so far.  The reply is a reason to stop, or None."""

    epoch: int
    value: float
    files: Files = field(default_factory=dict)


@dataclass(frozen=True)
class Warned:
    """A warning for the log of the search."""

    text: str


@dataclass(frozen=True)
class Done:
    """The trial has come to its end, or was stopped early."""

    result: Result
    files: Files


@dataclass(frozen=True)
class Failed:
    """The trial has no result.  wrong: its options or data cannot be used."""

    reason: str
    wrong: bool
    files: Files


@dataclass(frozen=True)
class Stopped:
    """The training was stopped by a signal, after saving."""


@dataclass(frozen=True)
class Broken:
    """An error that is no result of a trial: ``text`` is its traceback."""

    text: str


FINAL = (Done, Failed, Stopped, Broken)
"""The last answer to an Order."""


class Lost(Exception):
    """The process of a trial is gone."""


class Link(Protocol):
    """The search's end of the conversation."""

    def talk(self, message: object) -> Any:
        """Send a message and wait for the answer.  Raises Lost."""

    def stop(self) -> None:
        """Let the training save and end soon."""

    def close(self) -> None:
        """End the process."""


Make = Callable[[Log], Objective]
"""Makes what a trial does; it must survive pickling."""


def serve(receive: Callable[[], Any], send: Callable[[Any], None], make: Make) -> None:
    """The other end: train what is ordered until the order is None."""

    def ask(message: object) -> Any:
        send(message)
        return receive()

    log = PassedOn(lambda text: ask(Warned(text)))
    while (order := receive()) is not None:
        send(_carried_out(order, make(log), ask))


def _carried_out(order: Order, objective: Objective, ask: Callable[[object], Any]) -> object:
    """Train, and the last answer."""
    try:
        with _workplace(order) as folder:
            ships = order.files is not None
            try:
                result = objective(order.values, folder, _watch(folder, ships, ask))
                return Done(result, pack(folder) if ships else {})
            except FAILURES as error:
                if (reason := reason_of(error)) is None:
                    raise
                wrong = isinstance(error, InputError)
                return Failed(reason, wrong, pack(folder) if ships else {})
    except Interrupted:
        return Stopped()
    except Exception:  # noqa: BLE001  a bug: told where it can be seen
        return Broken(traceback.format_exc())


@contextlib.contextmanager
def _workplace(order: Order) -> Iterator[Path]:
    """The run folder, or a copy of it on this machine while the trial trains."""
    if order.files is None:
        yield order.folder
        return
    with tempfile.TemporaryDirectory(prefix="det-tune-") as place:
        folder = Path(place, *order.folder.parts[-3:])  # search/trials/003, as trackers name it
        unpack(order.files, folder)
        yield folder


def _watch(folder: Path, ships: bool, ask: Callable[[object], Any]) -> Watch:
    """Tells the search of each epoch, with the run folder where that costs little."""
    sent, took = time.monotonic(), 0.0

    def watch(epoch: int, value: float) -> str | None:
        nonlocal sent, took
        began = time.monotonic()
        due = ships and began - sent > REST * took
        reason: str | None = ask(News(epoch, value, pack(folder) if due else {}))
        if due:
            sent = time.monotonic()
            took = sent - began
        return reason

    return watch


class PassedOn(Log):
    """Passes warnings on to the search."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(verbose=False)
        self._tell = tell

    def once(self, texts: Sequence[str]) -> None:
        for text in texts:
            self._tell(text)


def pack(folder: Path) -> Files:
    """The files of a run folder, but those that belong to its process."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            with contextlib.suppress(FileNotFoundError):  # a tool's temporary file
                files[path.relative_to(folder).as_posix()] = path.read_bytes()
    return files


def unpack(files: Files, folder: Path) -> None:
    """Write the files of a run folder; the checkpoint to resume from comes last."""
    for name in sorted(files, key=lambda name: name == LAST.as_posix()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, files[name])
