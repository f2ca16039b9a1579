"""Stopping politely: a first Ctrl-C or SIGTERM asks the loop to finish its step and save; a second
one means it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(Exception):
    """The run was stopped by a signal, after saving.  exit_code: 130 for Ctrl-C, 143 for
    SIGTERM."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class StopRequest:
    """``signum`` is set once a signal has arrived."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            raise KeyboardInterrupt
        self.signum = signum


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM while the context lasts (only in the main thread, where Python
    allows it)."""
    request = StopRequest()
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
