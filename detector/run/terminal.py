"""Observer: a progress bar per epoch and a line per finished epoch on the terminal."""

from __future__ import annotations

import contextlib
import math
import time

from .log import BEST_MARK, Log, Update
from .observer import Epoch, Finished, Observer, Started, Step
from .words import duration

LOSSES = ("box", "cls", "dfl")
NARROW = ("img/s", "GiB", "val box", "val cls", "val dfl")
"""Columns that a narrow terminal does without, the first to go first."""


class Terminal(Observer):
    """Prints through ``log``."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._bar = contextlib.ExitStack()
        self._update: Update | None = None
        self._columns: dict[str, str] = {}
        self._score = ""
        self._best = ""
        self._began, self._first = 0.0, 0

    def started(self, run: Started) -> None:
        self._began, self._first = time.perf_counter(), run.epoch
        self._score = list(run.titles.values())[-1] if run.titles else ""
        self._columns = {name: f"train/{name}_loss" for name in LOSSES}
        self._columns |= {f"val {name}": f"val/{name}_loss" for name in LOSSES}
        self._columns |= {**run.titles, "img/s": "images_per_s", "GiB": "GiB", "left": "left"}
        for name in NARROW:
            if self._wide() > self.log.width:
                del self._columns[name]
        self.log.epoch_header(("epoch", *self._columns))

    def _wide(self) -> int:
        """Columns of the terminal that a line takes, the names one apart."""
        return sum(1 + max(len(name), 6) for name in ("epoch", *self._columns)) + len(BEST_MARK)

    def step(self, step: Step) -> None:
        if self._update is None:
            bar = self.log.progress(f"epoch {step.epoch}/{step.epochs}", step.batches)
            self._update = self._bar.enter_context(bar)
        done = step.epoch - 1 + step.batch / step.batches
        left = self._left(done, step.epochs)
        note = f"{step.images_per_s:.1f} images/s, run: {left} left{self._best}"
        self._update(step.batch, step.batches, note)
        if step.batch == step.batches:  # the bar of the validation comes next
            self._close()

    def _left(self, done: float, epochs: int) -> str:
        """Time until the last epoch is done.  done: epochs so far, with the part of this one."""
        learned = done - self._first
        took = time.perf_counter() - self._began
        return duration(took / learned * (epochs - done)) if learned > 0 else "?"

    def epoch(self, epoch: Epoch) -> None:
        row = dict(epoch.row) | {"GiB": epoch.memory_gib}
        cells = [f"{epoch.epoch}/{epoch.epochs}"]
        for name, column in self._columns.items():
            if name == "left":
                cells.append(self._left(epoch.epoch, epoch.epochs))
            else:
                digits = 1 if name in ("img/s", "GiB") else 3
                cells.append(number(row.get(column, math.nan), digits))
        best = epoch.best and not row.get(self._score, math.nan) < 0.0005  # which is shown as 0
        if best:
            score = number(row.get(self._score, math.nan), 3)
            self._best = f", best so far {score} (epoch {epoch.epoch})"
        self.log.epoch_row(cells, best=best)

    def finished(self, end: Finished) -> None:
        self._close()

    def failed(self, reason: str) -> None:
        self._close()

    def _close(self) -> None:
        self._bar.close()
        self._update = None


def number(value: float, digits: int) -> str:
    """``value`` with ``digits`` decimals, from 100 on without; a dash where it is not known."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.{digits}f}" if value < 100 else f"{value:.0f}"
