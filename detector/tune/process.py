"""Workers on this machine: a process each, which trains one trial after the other."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from ...datasets.batches.loader import choose_workers
from ...files.limits import usable_cores
from ...files.orphan import end_with_parent
from ...files.threads import thread_limit
from ..options.tune import TuneConfig
from ..run.log import Log
from ..run.rank_info import gpus_of
from .crew import Crew
from .link import FINAL, Lost, Make, serve
from .training import Training

PATIENCE = 10.0
"""Seconds that an idle process gets to end by itself."""


def local_crew(config: TuneConfig, fixed: dict[str, Any], log: Log) -> Crew | None:
    """The workers that ``workers=`` and ``device=`` ask for; None where this process is enough."""
    named = gpus_of(config.device)
    workers = config.workers or max(len(named), 1)
    if workers == 1:
        return None
    shares = [{**fixed, **share_of(config, number, workers)} for number in range(workers)]
    log.info(f"workers    {workers} trials at once, each with {_told(shares[0])}")
    return Crew(lambda number: Process(partial(Training, shares[number])), workers, log)


def share_of(config: TuneConfig, number: int, workers: int) -> dict[str, Any]:
    """The part of this machine that a worker gets, as options of its trainings.

    With a GPU the loader takes the cores, without one the model.
    """
    cores = max(usable_cores() // workers, 1)
    gpus = gpus_of(config.device)
    if config.device is None and torch.cuda.is_available():
        gpus = tuple(str(index) for index in range(torch.cuda.device_count()))
    share: dict[str, Any] = {"threads": config.threads or thread_limit() or cores}
    if gpus:
        share["device"] = gpus[number % len(gpus)]
    if gpus or config.device not in (None, "cpu"):
        share["workers"] = choose_workers("cuda", cores, cores)
    return share


def _told(share: dict[str, Any]) -> str:
    device = f"GPU {share['device']} and " if str(share.get("device", "")).isdigit() else ""
    threads = share["threads"]
    return f"{device}{threads} thread{'s' * (threads > 1)}"


class Process:
    """A link to a process of this machine, which ends with this one."""

    def __init__(self, make: Make) -> None:
        context = get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, make), name="det tune worker")
        self._process.start()
        theirs.close()
        self._idle = True

    def talk(self, message: object) -> Any:
        self._idle = False
        try:
            self._ours.send(message)
            answer = self._ours.recv()
        except (EOFError, OSError):
            self._process.join(PATIENCE)
            raise Lost(_how(self._process.exitcode)) from None
        self._idle = isinstance(answer, FINAL)
        return answer

    def stop(self) -> None:
        self._process.terminate()

    def close(self) -> None:
        """End the process: an idle one by itself, one that trains at once."""
        if self._idle:
            with contextlib.suppress(OSError):
                self._ours.send(None)
            self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        memory = ", perhaps because memory was short" if code == -9 else ""
        return f"its process was killed by signal {-code}{memory}"
    return f"its process ended with exit code {code}"


def _work(theirs: Connection, make: Make) -> None:
    """The life of a worker.  A Ctrl-C of the terminal is the search's, which passes it on."""
    if hasattr(os, "setsid"):
        os.setsid()
    end_with_parent()
    with contextlib.suppress(EOFError):
        serve(theirs.recv, theirs.send, make)
