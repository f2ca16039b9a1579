"""Observer: a progress bar per epoch and a line per finished epoch on the terminal."""

from __future__ import annotations

import contextlib
import math

from .log import Log, Update
from .observer import Epoch, Finished, Observer, Started, Step

LOSSES = ("box", "cls", "dfl")


class Terminal(Observer):
    """Prints through ``log``."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._bar = contextlib.ExitStack()
        self._update: Update | None = None
        self._titles: dict[str, str] = {}

    def started(self, run: Started) -> None:
        self._titles = dict(run.titles)
        self.log.epoch_header(("epoch", *LOSSES, "lr", "img/s", "GiB", *self._titles))

    def step(self, step: Step) -> None:
        if self._update is None:
            bar = self.log.progress(f"epoch {step.epoch}/{step.epochs}", step.batches)
            self._update = self._bar.enter_context(bar)
        self._update(step.batch, step.batches, f"{step.images_per_s:.1f} images/s")
        if step.batch == step.batches:  # the bar of the validation comes next
            self._close()

    def epoch(self, epoch: Epoch) -> None:
        row = epoch.row
        values = [f"{epoch.epoch}/{epoch.epochs}"]
        values += [f"{row[f'train/{name}_loss']:.3f}" for name in LOSSES]
        values += [f"{row['lr']:.2g}", f"{row['images_per_s']:.1f}", f"{epoch.memory_gib:.1f}"]
        values += [f"{row.get(column, math.nan):.3f}" for column in self._titles.values()]
        self.log.epoch_row(values)

    def finished(self, end: Finished) -> None:
        self._close()

    def failed(self, reason: str) -> None:
        self._close()

    def _close(self) -> None:
        self._bar.close()
        self._update = None
