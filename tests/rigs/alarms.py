"""A test of something that must not wait fails after half a minute instead of hanging."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class Waits(Exception):
    """What was tried waits for something that never comes."""


@contextlib.contextmanager
def alarm(seconds: int = 30) -> Iterator[None]:
    """Raise Waits in the main thread if the context takes longer."""

    def ring(*_: Any) -> None:
        raise Waits(f"it has not ended after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
