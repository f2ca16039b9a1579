"""The search on disk: Optuna's study in ``study.db``, and a lock per trial.

Several processes may work on one study.  Which trial comes next is decided under ``study.lock``,
and a process holds the lock of its trial while it trains.  The system releases locks when a process
ends, however it ends: a trial that is marked as running and whose lock is free has lost its
process, and whoever comes next goes on with it.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from ..options.ranges import Range

DEFAULTS = "defaults"
PRUNED = "pruned_at"
REASON = "reason"
REDUCTION = 3
"""Of the trials that have come to a rung, the best third goes on."""


@dataclass(frozen=True)
class Job:
    """A trial that this process works on.  values: its options; {} for the defaults."""

    trial: optuna.Trial
    values: Mapping[str, Any]

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def pruned(self) -> bool:
        """Whether it was stopped, and only this was not recorded any more."""
        return PRUNED in self.trial.user_attrs


class Study:
    """A study that processes share.

    space: what varies.  defaults: what the first trial is, as far as it lies in the space.
    resource: epochs of a whole trial, of which the first decision comes after a ninth.
    """

    def __init__(
        self,
        folder: Path,
        space: Mapping[str, Range],
        defaults: Mapping[str, Any],
        *,
        seed: int = 0,
        resource: int = 9,
    ) -> None:
        self.folder, self.space, self.seed = folder, space, seed
        self._decide = FileLock(folder / "study.lock")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        pruner = optuna.pruners.SuccessiveHalvingPruner(
            min_resource=math.ceil(resource / REDUCTION**2), reduction_factor=REDUCTION
        )
        with self._decide, _quiet():
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{folder / 'study.db'}",
                engine_kwargs={"connect_args": {"timeout": 60}},
            )
            self.optuna = optuna.create_study(
                storage=storage, study_name="det", direction="maximize", load_if_exists=True,
                pruner=pruner,
            )  # fmt: skip
            if not self.trials():
                inside = {n: defaults[n] for n, r in space.items() if r.holds(defaults.get(n))}
                self.optuna.enqueue_trial(inside, user_attrs={DEFAULTS: True})

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials so far, all or those in ``states``."""
        return self.optuna.get_trials(deepcopy=False, states=states or None)

    @contextmanager
    def next(self, limit: int) -> Iterator[Job | None]:
        """A trial of this process while the context lasts: one whose process is gone, else a new
        one, else None: ``limit`` trials have begun."""
        with self._decide, _quiet():
            trial, lock = self._lost() or self._new(limit)
            job = None if trial is None else Job(trial, self._values(trial))
        try:
            yield job
        finally:
            if lock is not None:
                lock.release()

    def _lost(self) -> tuple[optuna.Trial, FileLock] | None:
        for frozen in self.trials(TrialState.RUNNING):
            if (lock := self._take(frozen.number)) is None:
                continue
            if frozen.number in {trial.number for trial in self.trials(TrialState.RUNNING)}:
                return self._sampled(frozen.number, frozen._trial_id), lock
            lock.release()  # it came to its end while we looked
        return None

    def _new(self, limit: int) -> tuple[optuna.Trial | None, FileLock | None]:
        begun = len(self.trials()) - len(self.trials(TrialState.WAITING))
        if begun >= limit:
            return None, None
        self.optuna.sampler = self._sampler(begun)
        trial = self.optuna.ask()
        return trial, self._take(trial.number)

    def _sampled(self, number: int, key: int) -> optuna.Trial:
        self.optuna.sampler = self._sampler(number)
        return optuna.Trial(self.optuna, key)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """The sampler of one trial: what it draws follows from the seed and the trials before."""
        return optuna.samplers.TPESampler(
            seed=self.seed + number, multivariate=True, constant_liar=True,
            n_startup_trials=min(10, 2 + len(self.space)),
        )  # fmt: skip

    def _take(self, number: int) -> FileLock | None:
        lock = FileLock(self.folder / "locks" / f"{number:03d}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock

    def _values(self, trial: optuna.Trial) -> dict[str, Any]:
        values = {name: _suggest(trial, span) for name, span in self.space.items()}
        return {} if trial.user_attrs.get(DEFAULTS) else values

    def should_stop(self, job: Job, epoch: int, value: float) -> bool:
        """Report the best value so far; whether the trial is to end here.  The defaults never do:
        they are what all others are compared with."""
        with _quiet():
            job.trial.report(value, epoch)
            stops = not job.trial.user_attrs.get(DEFAULTS) and job.trial.should_prune()
            if stops:
                job.trial.set_user_attr(PRUNED, epoch)
        return stops

    def finish(self, job: Job, value: float) -> None:
        """Record a trial that has come to its end, or was stopped early."""
        if job.pruned:
            self.optuna.tell(job.trial, state=TrialState.PRUNED)
        else:
            self.optuna.tell(job.trial, value)

    def fail(self, job: Job, reason: str) -> None:
        """Record a trial that has no result."""
        job.trial.set_user_attr(REASON, reason)
        self.optuna.tell(job.trial, state=TrialState.FAIL)

    def note(self, job: Job, **facts: Any) -> None:
        """Remember facts of a trial for the table."""
        for name, value in facts.items():
            job.trial.set_user_attr(name, value)

    @property
    def best(self) -> FrozenTrial | None:
        """The complete trial with the highest value, the first of equals."""
        done = self.trials(TrialState.COMPLETE)
        return max(done, key=lambda trial: trial.value or 0.0, default=None)


def _suggest(trial: optuna.Trial, span: Range) -> Any:
    if span.choices:
        return trial.suggest_categorical(span.name, span.choices)
    if span.whole:
        return trial.suggest_int(span.name, int(span.low), int(span.high), log=span.log)
    return trial.suggest_float(span.name, span.low, span.high, log=span.log)


_FILTERS = threading.RLock()
"""Python's warning filters belong to the process, and workers are threads of one."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's warnings: of experimental features, and of what a trial that goes on has
    reported before."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def values_of(trial: FrozenTrial) -> dict[str, Any]:
    """The options of a trial; {} for the defaults."""
    return {} if trial.user_attrs.get(DEFAULTS) else dict(trial.params)


def importances(study: Study) -> dict[str, float]:
    """How much of the differences between complete trials each option explains, the largest first;
    {} where there are too few of them (PED-ANOVA, Watanabe et al. 2023, arXiv 2304.10255)."""
    done: Sequence[FrozenTrial] = study.trials(TrialState.COMPLETE)
    if len(done) < 4 or len({trial.value for trial in done}) < 2:
        return {}
    with _quiet():
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        try:
            return optuna.importance.get_param_importances(study.optuna, evaluator=evaluator)
        except (RuntimeError, ValueError):  # no option varies
            return {}
