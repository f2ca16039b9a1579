"""What a tool has recorded of a run, beside results.csv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny import rows_of, same, saved
from yolodet.detector.run.observer import Epoch, Observer

Series = dict[str, dict[int, float]]
"""Name -> epoch -> value."""


class Rows(Observer):
    """Remembers the unrounded rows."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def epoch(self, epoch: Epoch) -> None:
        self.rows.append(dict(epoch.row))


def check(series: Series, folder: Path, exact: list[dict[str, Any]], dtype: Any = float) -> None:
    """Every number of results.csv is in ``series``: with its digits, and unrounded to the bit of
    ``dtype``."""
    compared = 0
    rows = rows_of(folder)
    assert [row["epoch"] for row in rows] == [str(row["epoch"]) for row in exact]
    for text, row in zip(rows, exact, strict=True):
        for name, shown in text.items():
            if name in ("epoch", "precision") or shown == "nan":
                continue
            value = series[name][row["epoch"]]
            assert f"{float(row[name]):.6g}" == f"{float(shown):.6g}"
            assert dtype(value) == dtype(row[name]), name
            compared += 1
    assert compared >= 16 * len(rows)


def assert_same_weights(place: Path) -> None:
    """The two runs learned the same; their options differ in ``log``."""
    one, other = (saved(place / name / "train") for name in ("with", "without"))
    assert all(same(one[part], other[part]) for part in ("model", "ema", "optimizer"))
