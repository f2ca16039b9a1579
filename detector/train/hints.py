"""Observer: what is clearly off in a run, each said once, with what to try."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..run.log import Log
from ..run.observer import Epoch, Observer, Started
from .assemble import Run
from .reasons import tiny_boxes

NOTHING = 0.01
"""AP that is near zero."""
FEWEST = 6
"""Epochs below which a run is too short to be judged on its way."""
MEAN = 3
"""Epochs whose losses are averaged."""
RISE = 1.15
STILL_RISES = 0.005
"""Gain of AP in the last tenth of a run that says that it was cut short."""


class Hints(Observer):
    """Warns through ``log``."""

    def __init__(self, run: Run, log: Log) -> None:
        self._log = log
        self._data = data_hints(run)
        self._said: set[str] = set()

    def started(self, run: Started) -> None:
        if run.epoch == 0:
            self._log.once(self._data)

    def epoch(self, epoch: Epoch) -> None:
        for kind, text in run_hints(epoch.rows, epoch.epochs).items():
            if kind not in self._said:
                self._said.add(kind)
                self._log.warn(text)


def data_hints(run: Run) -> list[str]:
    """What the boxes say before the first step."""
    shown = {int(label) for record in run.val.records for label in record.labels}
    missing = [name for number, name in enumerate(run.class_names) if number not in shown]
    lines = [line for line in (tiny_boxes(run),) if line]
    if missing and shown:
        names = ", ".join(missing[:5]) + (", ..." if missing[5:] else "")
        lines.append(
            f"{run.config.split} has no box of {names}: AP says nothing of them; divide anew with "
            "det data split, or hold out a part of train (val=0.2)"
        )
    return lines


def run_hints(rows: Sequence[Mapping[str, Any]], epochs: int) -> dict[str, str]:
    """Kind of trouble -> what to try, after the epochs in ``rows`` (of results.csv)."""
    if epochs < FEWEST or len(rows) < epochs / 3:
        return {}
    found = {}
    known = [(row["metrics/map"], row["epoch"]) for row in rows if _known(row, "metrics/map")]
    if known and max(known)[0] < NOTHING:
        found["nothing"] = (
            f"AP is {max(known)[0]:.3f} after {len(rows)} of {epochs} epochs: look at the labels "
            "(det data check, det data show), start from weights (model=auto), or try a smaller lr0"
        )
    losses = [_loss(row) for row in rows]
    means = [sum(losses[at : at + MEAN]) / MEAN for at in range(len(losses) - MEAN + 1)]
    if len(means) > MEAN and means[-1] > RISE * min(means[:-MEAN]):
        found["rising"] = (
            f"the training loss rises: {means[-1]:.3g} on average, and it was "
            f"{min(means[:-MEAN]):.3g}; stop and try a smaller lr0, e.g. half of it"
        )
    if len(rows) == epochs and known and max(known)[1] == epochs:
        early = [ap for ap, epoch in known if epoch <= 0.9 * epochs]
        if early and max(known)[0] - max(early) > STILL_RISES:
            found["short"] = (
                f"AP still rose by {max(known)[0] - max(early):.3f} in the last tenth of the run, "
                f"and the learning rate is at its end: epochs={2 * epochs} may give more"
            )
    return found


def _known(row: Mapping[str, Any], column: str) -> bool:
    return not math.isnan(row.get(column, math.nan))


def _loss(row: Mapping[str, Any]) -> float:
    """The training loss of an epoch."""
    return float(sum(row[f"train/{part}_loss"] for part in ("box", "cls", "dfl")))
