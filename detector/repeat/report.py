"""What several runs found together: a row for each, their mean, and how far they are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from ..options.train import TrainConfig
from ..run.log import Log

SHOWN = {"AP": "map", "AP50": "map_50", "precision": "precision", "recall": "recall"}


def summary(config: TrainConfig, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The content of results.json.

    results: by name of the run, as its results.json and its folder.  metrics: the mean of every
    number; spread: the standard deviation between the runs (with n - 1), of SHOWN; None where
    fewer than two runs have a number.
    """
    rows = [
        {
            "name": name,
            "folder": each["folder"],
            "best": each["best"],
            "images": each["metrics"].get("num_images"),
            "epochs": each["epochs"],
            "best_epoch": each["best_epoch"],
            **{key: each["metrics"].get(key) for key in SHOWN.values()},
        }
        for name, each in results.items()
    ]
    known = {key: [row[key] for row in rows if row[key] is not None] for key in SHOWN.values()}
    spread = {key: stdev(v) if len(v) > 1 else None for key, v in known.items()}
    return {
        "kind": "folds" if config.folds is not None else "seeds",
        "runs": rows,
        "metrics": averaged([each["metrics"] for each in results.values()]),
        "spread": spread,
        "stopped": False,
    }


def averaged(values: Sequence[Any]) -> Any:
    """The mean of nested plain data of one form: of numbers that are not None; texts and forms that
    differ are those of the first."""
    first = values[0]
    if isinstance(first, Mapping):
        shared = [key for key in first if all(key in value for value in values)]
        return {key: averaged([value[key] for value in values]) for key in shared}
    if isinstance(first, list):
        if len({len(value) for value in values}) > 1:
            return first
        return [averaged(items) for items in zip(*values, strict=True)]
    numbers = [v for v in values if isinstance(v, int | float)]
    return mean(map(float, numbers)) if numbers else first


def show_runs(found: Mapping[str, Any], log: Log) -> None:
    """The table: a line per run, the mean and the spread."""

    def cells(row: Mapping[str, Any]) -> list[str]:
        return ["-" if row[key] is None else f"{row[key]:.3f}" for key in SHOWN.values()]

    rows = [
        [row["name"], str(row["images"]), f"{row['best_epoch']}/{row['epochs']}", *cells(row)]
        for row in found["runs"]
    ]
    rows.append(["mean", "", "", *cells(found["metrics"])])
    rows.append(["spread", "", "", *cells(found["spread"])])
    log.table(found["kind"], ["run", "val images", "best epoch", *SHOWN], rows)


def verdict(found: Mapping[str, Any]) -> str:
    """AP in one line."""
    ap, spread = found["metrics"].get("map"), found["spread"]["map"]
    if ap is None:
        return "no AP: there is no box to find"
    apart = "" if spread is None else f" ± {spread:.3f} (standard deviation between the runs)"
    return f"AP {ap:.3f}{apart}, mean of {len(found['runs'])} {found['kind']}"
