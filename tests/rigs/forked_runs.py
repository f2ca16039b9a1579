"""Runs of ``det`` that can be killed cheaply: a warm process forks each of them.

As a program it reads one job a line (JSON) and answers each with how the run ended.  A fork is a
process like any other: it is really killed, at a moment of its wall clock or inside a write.
``Killer`` is the other end, for tests.
"""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

Job = dict[str, Any]
"""arguments: after ``det``.  after: seconds until it is killed.  event: the write event at which it
is killed.  share: how much of a checkpoint is written by then.  full: the disk is full at that
event, and not that it is killed.  step: the training step in which it gets ``signal``.  group: the
run has a process group of its own, all of which gets the signal.  log: a file."""


class Killer:
    """Starts the warm process; ``run`` has it fork one run and waits for the end.

    tiny: a detector of a few convolutions stands in the place of yolo26n.
    """

    def __init__(self, *, tiny: bool = True) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *["tiny"] * tiny],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(self, *arguments: str, log: Path, **job: Any) -> dict[str, Any]:
        """Returns code (of the exit, or minus a signal), seconds, events (of writing) and left
        (whether a process of its group outlived it)."""
        assert self.process.stdin is not None and self.process.stdout is not None
        line = json.dumps({"arguments": arguments, "log": str(log), **job})
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def serve() -> None:
    """Warm up, then fork a run for every line of stdin."""
    warm_up()
    gc.collect()
    gc.freeze()  # forks need not look through what was imported
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        job = json.loads(line)
        events = Path(job["log"]).with_suffix(".events")
        events.unlink(missing_ok=True)
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            run(job, events)
        if "after" in job:
            timer = threading.Timer(job["after"], kill, (child,))
            timer.start()
        _, status = os.waitpid(child, 0)
        if "after" in job:
            timer.cancel()
            timer.join()
        answer = {
            "code": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - started,
            "events": int(events.read_text()) if events.exists() else None,
            "left": bool(job.get("group")) and lives(child),
        }
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def lives(group: int) -> bool:
    """Whether a process of the group is there ten seconds after its first has ended."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


def warm_up() -> None:
    """Import all that a training loads, and put a tiny detector in the place of yolo26n if told."""
    import faster_coco_eval  # noqa: F401
    import jinja2  # noqa: F401
    import torch
    import torch._dynamo
    import torch._refs
    from tiny import tiny_detector
    from yolodet import cli  # noqa: F401
    from yolodet.detector.models import yolo26
    from yolodet.detector.train import pipeline  # noqa: F401

    if "tiny" in sys.argv:
        yolo26.build = lambda size, classes, width=None: tiny_detector(classes)
    torch.set_num_threads = lambda count: None


def run(job: Job, events: Path) -> None:
    """In the child: one command, with its talk in a file; never returns."""
    log = os.open(job["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    counter = Events(job.get("event"), job.get("share", 0.5), full=job.get("full", False))
    counter.install()
    if job.get("group"):
        os.setsid()
    if "step" in job:
        signal_at(job["step"], job["signal"], group=job.get("group", False))
    from yolodet.cli import main

    code = main(job["arguments"])
    sys.stderr.flush()
    events.write_text(str(counter.count))
    os._exit(code)


def signal_at(step: int, kind: int, *, group: bool) -> None:
    """Let this process, or its whole group, get a signal in the middle of a training step."""
    import torch
    from yolodet.detector.losses.detection import DetectionLoss

    steps, learn = itertools.count(), DetectionLoss.__call__

    def interrupted(self: Any, outputs: Any, batch: Any) -> Any:
        if torch.is_grad_enabled() and next(steps) == step:  # validation has losses too
            os.killpg(0, kind) if group else os.kill(os.getpid(), kind)
        return learn(self, outputs, batch)

    DetectionLoss.__call__ = interrupted  # type: ignore[method-assign]


class Events:
    """Counts the steps of writing files (a state's bytes, flushes, renames) and, at the step
    ``last``, kills this process; a state is cut off after ``share`` of its bytes.  full: instead,
    no file can grow any more."""

    def __init__(self, last: int | None, share: float, *, full: bool) -> None:
        self.last, self.share, self.full, self.count = last, share, full, 0

    def install(self) -> None:
        import torch

        self.save, self.fsync, self.replace = torch.save, os.fsync, os.replace
        torch.save, os.fsync, os.replace = self._save, self._fsync, self._replace

    def _due(self) -> bool:
        self.count += 1
        if self.count - 1 != self.last or not self.full:
            return self.count - 1 == self.last
        room = 1000 + os.fstat(2).st_size  # what is printed goes to a file too
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        return False

    def _save(self, state: Any, file: Any) -> None:
        data = io.BytesIO()
        self.save(state, data)
        if self._due():
            file.write(data.getvalue()[: int(self.share * data.tell())])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        file.write(data.getvalue())

    def _fsync(self, file: int) -> None:
        if self._due():
            os.kill(os.getpid(), signal.SIGKILL)
        self.fsync(file)

    def _replace(self, source: Any, target: Any) -> None:
        if self._due():
            os.kill(os.getpid(), signal.SIGKILL)
        self.replace(source, target)


if __name__ == "__main__":
    serve()
