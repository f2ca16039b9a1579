"""The loop of a search: take a trial, run it, record what came of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from ...files.counted import counted
from ...files.errors import InputError
from ..options.parse import show
from ..run.log import Log
from ..run.words import duration
from .crew import Crew, run_all
from .study import Job, Study
from .training import FAILURES, Objective, Result, reason_of

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
    ended: int = 0
    """Trials that came to their end since then."""

    def over(self, whole: float) -> bool:
        """whole: seconds of a whole training, as far as is known."""
        if self.seconds is None:
            return False
        return time.monotonic() - self.began > self.seconds - self.closing * whole

    def left(self, trials: int, whole: float, workers: int) -> float:
        """Seconds until ``trials`` more and the closing trainings are done, at most the limit; nan
        where no trial has ended yet."""
        if not self.ended:
            return math.nan
        took = time.monotonic() - self.began
        needed = took / self.ended * trials + self.closing * whole / workers
        return needed if self.seconds is None else min(needed, max(self.seconds - took, 0.0))


class TimeIsOver(Exception):
    """A trial was left where it is, for whoever goes on with the search."""


def search(study: Study, objective: Objective, limit: int, log: Log, until: Deadline) -> None:
    """Run trials until ``limit`` have begun or the time is over; those of processes that are gone
    are brought to their end first.

    Raises Interrupted, and InputError where even the defaults cannot be trained.
    """
    works = workers_of(objective) * [partial(_work, study, objective, limit, log, until)]
    run_all(objective, works)


def workers_of(objective: Objective) -> int:
    """Trials at once."""
    return objective.workers if isinstance(objective, Crew) else 1


def _work(study: Study, objective: Objective, limit: int, log: Log, until: Deadline) -> None:
    """The trials of one worker."""
    while not until.over(whole_seconds(study)):
        with study.next(limit) as job:
            if job is None:
                return
            try:
                _run(study, job, objective, log, until)
            except TimeIsOver:
                return
        until.ended += 1
        _say_left(study, limit, workers_of(objective), log, until)


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
    except FAILURES as error:
        if (reason := reason_of(error)) is None:
            raise
        study.fail(job, reason)
        if isinstance(error, InputError) and job.number == 0:
            raise
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


def _say_left(study: Study, limit: int, workers: int, log: Log, until: Deadline) -> None:
    ended = [trial for trial in study.trials() if trial.state.is_finished()]
    whole = whole_seconds(study)
    left = until.left(max(limit - len(ended), 0), whole, workers)
    if left > 0:
        closing = ", closing trainings included" if until.closing and whole else ""
        log.info(f"{len(ended)} of {counted(limit, 'trial')} done, about {duration(left)} left"
                 f"{closing}")  # fmt: skip


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
