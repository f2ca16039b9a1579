"""Restores the stack of signal handlers after a library has replaced it.

OpenVINO gives the thread that compiles a model its own signal stack and frees it afterwards; the
next Ctrl-C would run Python's handler in freed memory and crash the process.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Stack(ctypes.Structure):
    """stack_t of Linux, see sigaltstack(2)."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def same_signal_stack() -> Iterator[None]:
    """Restore the signal stack of this thread at the end.  No effect except on Linux."""
    if not sys.platform.startswith("linux"):
        yield
        return
    libc, before = ctypes.CDLL(None), Stack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
