"""What ``train()`` and ``val()`` return: results.json as a dict, with the field's attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .rows import Rows


class ConfusionMatrix(NamedTuple):
    """matrix: [C+1,C+1] counts, row = predicted class, column = true class, last = background."""

    matrix: np.ndarray
    names: dict[int, str]


class BoxMetrics:
    """Metrics of boxes.

    map, map50, map75: AP at IoU 0.50:0.95, 0.50, 0.75.  mp, mr: mean precision and recall at the
    best confidence.  p, r, f1, ap50, ap: arrays of the classes with ground truth, whose ids are in
    ap_class_index.  maps: [C] AP of every class, for a class without ground truth the mean.
    """

    def __init__(self, metrics: Mapping[str, Any]) -> None:
        rows = metrics["per_class"]
        shown = [row for row in rows if row["boxes"]]
        self.map, self.map50, self.map75 = (
            _number(metrics[name]) for name in ("map", "map_50", "map_75")
        )
        self.mp, self.mr = _number(metrics["precision"]), _number(metrics["recall"])
        self.ap_class_index = np.array([i for i, row in enumerate(rows) if row["boxes"]], int)
        self.p, self.r, self.f1, self.ap50, self.ap = (
            np.array([_number(row[name]) for row in shown])
            for name in ("precision", "recall", "f1", "ap_50", "ap")
        )
        self.maps = np.full(len(rows), self.map)
        self.maps[self.ap_class_index] = self.ap

    def mean_results(self) -> list[float]:
        """Mean precision, mean recall, AP50, AP."""
        return [self.mp, self.mr, self.map50, self.map]

    def class_result(self, index: int) -> tuple[float, float, float, float]:
        """Precision, recall, AP50 and AP of the class ``ap_class_index[index]``."""
        p, r, ap50, ap = (float(v[index]) for v in (self.p, self.r, self.ap50, self.ap))
        return p, r, ap50, ap


class MeasuredResults(dict[str, Any], Rows):
    """The content of results.json and where the run is, also as attributes."""

    @property
    def box(self) -> BoxMetrics:
        return BoxMetrics(self["metrics"])

    @property
    def maps(self) -> np.ndarray:
        return self.box.maps

    @property
    def fitness(self) -> float:
        """AP at IoU 0.50:0.95, of all detections where an image has more than 100 boxes of a class:
        what chooses the best checkpoint, unless ``best=`` names another metric."""
        metrics = self["metrics"]
        return _number(metrics["map_all"]) if metrics.get("crowded") else self.box.map

    @property
    def results_dict(self) -> dict[str, float]:
        """The metrics under the field's names."""
        names = ("precision(B)", "recall(B)", "mAP50(B)", "mAP50-95(B)")
        values = {f"metrics/{n}": v for n, v in zip(names, self.box.mean_results(), strict=True)}
        return values | {"fitness": self.fitness}

    @property
    def names(self) -> dict[int, str]:
        return {i: row["name"] for i, row in enumerate(self["metrics"]["per_class"])}

    @property
    def confusion_matrix(self) -> ConfusionMatrix:
        return ConfusionMatrix(np.array(self["metrics"]["confusion"]).T, self.names)

    @property
    def speed(self) -> dict[str, float]:
        """ms per image: preprocess, inference, postprocess."""
        return dict(self["speed_ms"])

    @property
    def save_dir(self) -> Path:
        return Path(self["folder"])

    def summary(self, normalize: bool = False, decimals: int | None = 5) -> list[dict[str, Any]]:
        """One row per class with ground truth.  normalize: has no effect."""
        columns = {
            "Class": "name", "Images": "images", "Instances": "boxes", "Box-P": "precision",
            "Box-R": "recall", "Box-F1": "f1", "mAP50": "ap_50", "mAP50-95": "ap",
        }  # fmt: skip
        return [
            {title: _rounded(row[name], decimals) for title, name in columns.items()}
            for row in self["metrics"]["per_class"]
            if row["boxes"]
        ]


def _number(value: float | None) -> float:
    """As JSON has it: None for a missing number."""
    return math.nan if value is None else float(value)


def _rounded(value: Any, decimals: int | None) -> Any:
    return round(value, decimals) if isinstance(value, float) and decimals is not None else value
