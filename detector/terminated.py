"""SIGTERM as an exception, so that ``with`` blocks clean up before the process ends.

For every command but det train, which saves first: ``train/signals.py``.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The command was stopped by SIGTERM; like Ctrl-C, no ``except Exception`` holds it up."""

    exit_code = 128 + signal.SIGTERM


def _stop(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would break off the cleaning up
    raise Terminated("stopped by SIGTERM")


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise Terminated at a SIGTERM while the context lasts (only in the main thread, where Python
    allows it); afterwards SIGTERM is what it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
