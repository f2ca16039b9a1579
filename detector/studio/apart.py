"""Long work in a process of its own.  Threads of one Python process take turns, and a page with 60
small pictures would wait for its turn hundreds of times."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from ...files.errors import DetError
from ...files.orphan import end_with_parent

Progress = Callable[[int, int], None]
LOW_PRIORITY = 5
SECONDS = 0.1
"""Between two calls of ``on_progress``, also where the work reports nothing."""


def apart(work: Callable[[Any, Progress], Any], given: Any, on_progress: Progress) -> Any:
    """``work(given, on_progress)`` in a new process with a low priority.

    work: a function of a module; given and its result are pickled.  on_progress: called with the
    last (done, total); what it raises ends the process.  Raises DetError with the message of a
    DetError or OSError of the work, or where the process was killed.
    """
    context = get_context("spawn")  # a fork would copy the locks of the other threads
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, work, given), daemon=True)
    process.start()
    theirs.close()
    progress = (0, 0)
    try:
        while True:
            while not ours.poll(SECONDS):
                on_progress(*progress)
            kind, content = ours.recv()
            if kind == "done":
                return content
            if kind == "failed":
                raise DetError(content)
            progress = content
    except (EOFError, OSError):
        process.join()
        code = process.exitcode
        memory = ", perhaps because memory was short" if code == -signal.SIGKILL else ""
        raise DetError(
            f"the process in the background ended with exit code {code}{memory}"
        ) from None
    finally:
        process.kill()
        process.join()
        ours.close()


def _work(theirs: Connection, work: Callable[[Any, Progress], Any], given: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the studio's, which ends this process
    end_with_parent()
    if hasattr(os, "nice"):
        os.nice(LOW_PRIORITY)
    try:
        found = work(given, lambda done, total: theirs.send(("progress", (done, total))))
        theirs.send(("done", found))
    except DetError as error:
        theirs.send(("failed", str(error)))
    except OSError as error:
        theirs.send(("failed", f"{error.filename}: {error.strerror}"))
