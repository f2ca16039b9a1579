"""Observer: results.csv, a line per epoch."""

from __future__ import annotations

from pathlib import Path

from .files import write_csv
from .observer import Epoch, Observer, Started


class ResultsCsv(Observer):
    """Writes the whole file after each epoch, so that a continued run has every line."""

    path: Path

    def started(self, run: Started) -> None:
        self.path = run.folder / "results.csv"

    def epoch(self, epoch: Epoch) -> None:
        write_csv(self.path, epoch.rows)
