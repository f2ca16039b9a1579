"""Stopping in order: the first Ctrl-C or SIGTERM asks the loop to finish its step and save; a
second one stops at once.

A rank may get one Ctrl-C twice: from the terminal and from its launcher.  A signal that follows
another within ``echo`` seconds therefore counts as the same one.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from ...files.errors import DetError


class Interrupted(DetError):
    """The run was stopped by a signal, after saving.  exit_code: 130 for Ctrl-C, 143 for
    SIGTERM."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int, str]]:
        """For other processes."""
        return Interrupted, (self.exit_code - 128, str(self))


class StopRequest:
    """``signum`` is set once a signal has arrived."""

    def __init__(self, echo: float = 0.0) -> None:
        self.signum: int | None = None
        self._echo, self._heard = echo, 0.0

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signum is None:
            self.signum, self._heard = signum, now
        elif now - self._heard >= self._echo:
            raise KeyboardInterrupt


@contextlib.contextmanager
def stop_request(echo: float = 0.0) -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM inside the context (only in the main thread: Python allows no
    other)."""
    request = StopRequest(echo)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {
        number: signal.signal(number, request._receive)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Terminated(KeyboardInterrupt):
    """The command was stopped by SIGTERM.  Like Ctrl-C, it is no Exception."""

    exit_code = 128 + signal.SIGTERM


def _stop(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would interrupt the cleanup
    raise Terminated("stopped by SIGTERM")


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise Terminated at a SIGTERM inside the context (only in the main thread); afterwards the
    former handler is back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
