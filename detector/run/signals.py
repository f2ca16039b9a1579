"""Stopping in order: the first Ctrl-C, SIGTERM or SIGHUP asks the loop to finish its step and save;
a second Ctrl-C or SIGTERM stops at once.

SIGHUP comes when the terminal is closed or its connection is lost, often twice and together with a
SIGTERM.  It therefore never counts as a second signal.  A command that was started with ``nohup``
keeps ignoring it.

A rank may get one Ctrl-C twice: from the terminal and from its launcher.  A signal that follows
another within ``echo`` seconds therefore counts as the same one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

from ...files.errors import DetError

SIGHUP: int | None = getattr(signal, "SIGHUP", None)  # Windows has none


class Interrupted(DetError):
    """The run was stopped by a signal, after saving.  exit_code: 130 for Ctrl-C, 143 for
    SIGTERM, 129 for SIGHUP."""

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
        if signum == SIGHUP:
            leave_lost_terminal()
            self.signum = self.signum or signum
        elif self.signum in (None, SIGHUP):
            self.signum, self._heard = signum, now
        elif now - self._heard >= self._echo:
            raise KeyboardInterrupt


@contextlib.contextmanager
def stop_request(echo: float = 0.0) -> Iterator[StopRequest]:
    """Catch SIGINT, SIGTERM and SIGHUP inside the context (only in the main thread: Python allows
    no other)."""
    request = StopRequest(echo)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    with handled((signal.SIGINT, *ending_signals()), request._receive):
        yield request


class Terminated(KeyboardInterrupt):
    """The command was stopped by SIGTERM or SIGHUP.  Like Ctrl-C, it is no Exception."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


def _stop(signum: int, frame: FrameType | None) -> None:
    for number in ending_signals():
        signal.signal(number, signal.SIG_IGN)  # a second one would interrupt the cleanup
    if signum == SIGHUP:
        leave_lost_terminal()
    raise Terminated(signum)


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise Terminated at a SIGTERM or SIGHUP inside the context (only in the main thread);
    afterwards the former handlers are back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with handled(ending_signals(), _stop):
        yield


def ending_signals() -> tuple[int, ...]:
    """SIGTERM, and SIGHUP where it exists and is not ignored (``nohup``)."""
    if SIGHUP is None or signal.getsignal(SIGHUP) == signal.SIG_IGN:
        return (signal.SIGTERM,)
    return signal.SIGTERM, SIGHUP


@contextlib.contextmanager
def handled(
    signals: Iterable[int], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """``handler`` takes these signals inside the context."""
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def leave_lost_terminal() -> None:
    """Let stdout and stderr go nowhere where they belong to a terminal that is gone: every write
    would fail."""
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
