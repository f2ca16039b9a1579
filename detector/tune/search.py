"""The loop of a search: take a trial, run it, record what came of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from optuna.trial import TrialState

from ...files.errors import DetError, InputError
from ..options.parse import show
from ..run.log import Log
from ..run.signals import Interrupted
from .study import Job, Study
from .training import Objective, Result

PRUNE = "worse than two thirds of the trials that came this far"
OVER = "the time of the search is over"


@dataclass
class Deadline:
    """When the search has to end, so that the closing trainings fit too.

    seconds: from now on, None for no limit.  closing: whole trainings after the search.
    """

    seconds: float | None = None
    closing: int = 0
    began: float = field(default_factory=time.monotonic)

    def over(self, whole: float) -> bool:
        """whole: seconds of a whole training, as far as is known."""
        if self.seconds is None:
            return False
        return time.monotonic() - self.began > self.seconds - self.closing * whole


class TimeIsOver(Exception):
    """A trial was left where it is, for whoever goes on with the search."""


def search(study: Study, objective: Objective, limit: int, log: Log, until: Deadline) -> None:
    """Run trials until ``limit`` have begun or the time is over; those of processes that are gone
    are brought to their end first.

    Raises Interrupted, and InputError where even the defaults cannot be trained.
    """
    while not until.over(whole_seconds(study)):
        with study.next(limit) as job:
            if job is None:
                return
            try:
                _run(study, job, objective, log, until)
            except TimeIsOver:
                return


def _run(study: Study, job: Job, objective: Objective, log: Log, until: Deadline) -> None:
    """One trial.  What it raises is its result, unless it concerns the whole search."""
    stopped = False

    def watch(epoch: int, value: float) -> str | None:
        nonlocal stopped
        if study.should_stop(job, epoch, value):
            return PRUNE
        stopped = until.over(whole_seconds(study))
        return OVER if stopped else None

    if job.pruned:
        study.finish(job, 0.0)
        return
    try:
        result = objective(job.values, trial_folder(study.folder, job.number), watch)
    except Interrupted:
        raise
    except (DetError, MemoryError, torch.OutOfMemoryError, FloatingPointError) as error:
        if isinstance(error, InputError) and job.number == 0:
            study.fail(job, str(error))
            raise
        reason = str(error) or type(error).__name__
        study.fail(job, reason)
        log.warn(f"trial {job.number} failed: {reason}; {_words(job)}")
        return
    if stopped and not job.pruned:
        raise TimeIsOver
    _record(study, job, result, log)


def _record(study: Study, job: Job, result: Result, log: Log) -> None:
    if math.isnan(result.value):
        study.fail(job, "no AP could be measured")
        log.warn(f"trial {job.number} failed: no AP could be measured; {_words(job)}")
        return
    before = study.best
    study.note(job, epochs=result.epochs, seconds=result.seconds)
    study.finish(job, result.value)
    mark = ", stopped early" if job.pruned else ""
    if not mark and (before is None or result.value > (before.value or 0.0)):
        mark = ", best"
    log.info(f"trial {job.number:>3}: AP {result.value:.3f} after epoch {result.epochs}{mark}  "
             f"{_words(job)}")  # fmt: skip


def _words(job: Job) -> str:
    return words_of(job.values) or "the defaults"


def words_of(values: Mapping[str, Any]) -> str:
    """``lr0=0.0123 mosaic=0.5``: options as they are typed, numbers with four digits."""
    shown = {n: f"{v:.4g}" if isinstance(v, float) else show(v) for n, v in values.items()}
    return " ".join(f"{name}={text}" for name, text in shown.items())


def trial_folder(folder: Path, number: int) -> Path:
    """Where a trial trains."""
    return folder / "trials" / f"{number:03d}"


def whole_seconds(study: Study) -> float:
    """Mean seconds of a whole training among the trials so far; 0 where none is known."""
    done = [t.user_attrs.get("seconds", 0.0) for t in study.trials(TrialState.COMPLETE)]
    return sum(done) / len(done) if done else 0.0
