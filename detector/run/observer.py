"""Observers of a training run: loggers, plots, a tuner's pruner, a live page; each is one file.

An observer gets plain data at six moments, on rank 0 only, and nothing of the trainer.  If it
raises, that is reported once as a warning and the run goes on with the same weights.  It can ask
for one thing: ``epoch`` may return the reason to stop the run after this epoch.

Training draws nothing from the global random generators, so an observer may use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Started:
    """The run begins, or continues.  folder: of the run.  config: every option.  epoch: finished
    ones, 0 in a new run.  epochs: planned.  batches: per epoch.  titles: short names for a
    terminal, each with the column of an epoch's row that it stands for."""

    folder: Path
    config: Mapping[str, Any]
    model: str
    data: str
    epoch: int
    epochs: int
    batches: int
    titles: Mapping[str, str]


@dataclass(frozen=True)
class Step:
    """A batch was learned (again, after a rollback).  epoch, batch: counted from 1.  losses: call
    it for the mean loss parts of the epoch so far; on a GPU this waits for the device, so do not
    call it in every step."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    images_per_s: float
    losses: Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Epoch:
    """An epoch was learned and measured.  row: its line of results.csv.  rows: all lines so far.
    best: its weights are the best so far.  memory_gib: peak memory of the device.  per_class: name,
    ap and more of each class; empty where the evaluator has none."""

    epoch: int
    epochs: int
    row: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    best: bool
    memory_gib: float
    per_class: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Finished:
    """The run is over.  results: the content of results.json.  evaluation: of the best weights (see
    evaluate/evaluator.py); None when the run's evaluator makes none."""

    folder: Path
    results: Mapping[str, Any]
    evaluation: Any


class Observer:
    """Overwrite the moments you need."""

    def started(self, run: Started) -> None:
        """Before the first step."""

    def step(self, step: Step) -> None:
        """After each batch."""

    def epoch(self, epoch: Epoch) -> str | None:
        """After each epoch.  Return a reason to stop the run: it ends as a finished one does."""

    def saved(self, path: Path, epoch: int) -> None:
        """A checkpoint was written.  epoch: finished epochs that it has learned."""

    def finished(self, end: Finished) -> None:
        """After the best weights were measured."""

    def failed(self, reason: str) -> None:
        """The run ended by an error or a signal."""


class Observers:
    """Tells each observer, in order.  warn: takes the report about one that fails."""

    def __init__(self, observers: Iterable[Observer], warn: Callable[[str], None]) -> None:
        self._observers, self._warn = list(observers), warn
        self._reported: set[int] = set()

    def started(self, run: Started) -> None:
        self._tell(lambda observer: observer.started(run))

    def step(self, step: Step) -> None:
        self._tell(lambda observer: observer.step(step))

    def epoch(self, epoch: Epoch) -> str | None:
        """The first observer's reason to stop, or None."""
        reasons = self._tell(lambda observer: observer.epoch(epoch))
        return next((str(reason) for reason in reasons if reason), None)

    def saved(self, path: Path, epoch: int) -> None:
        self._tell(lambda observer: observer.saved(path, epoch))

    def finished(self, end: Finished) -> None:
        self._tell(lambda observer: observer.finished(end))

    def failed(self, reason: str) -> None:
        self._tell(lambda observer: observer.failed(reason))

    def _tell(self, call: Callable[[Observer], Any]) -> list[Any]:
        answers = []
        for observer in self._observers:
            try:
                answers.append(call(observer))
            except Exception as error:  # noqa: BLE001  code from outside: anything may come
                if id(observer) not in self._reported:
                    self._reported.add(id(observer))
                    self._warn(
                        f"observer {type(observer).__name__} failed: {type(error).__name__}: "
                        f"{error}; the run goes on, and this is not reported again"
                    )
        return answers
