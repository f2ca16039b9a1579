"""Which confidence to use: the one with the best F1, or the lowest one that is precise enough.

Proposed from one validation, for all classes together and for each class.  Both come from the
curves of metrics.py, in steps of 0.001.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .curves import CONFIDENCES, best_place, class_mean
from .metrics import Curves, Metrics


def propose(metrics: Metrics, precision: float | None = None) -> dict[str, Any]:
    """Confidences as plain data: ``rule``, ``all``, and ``classes``: a number or None per class.

    precision: the share of detections that are to be right; None proposes the best F1.  None stands
    where no confidence does it: nothing is found, there is no box, or the precision is not reached.
    """
    curves, count = metrics.curves, len(metrics.per_class)
    whole = _place(class_mean(curves.f1)[None], class_mean(curves.precision)[None], precision)
    places = [_place(*_rows(curves, number), precision) for number in range(count)]
    return {
        "rule": "best F1" if precision is None else f"precision {precision:g}",
        "all": _confidence(whole),
        "classes": [_confidence(place) for place in places],
    }


def _rows(curves: Curves, number: int) -> tuple[np.ndarray, np.ndarray]:
    """F1 and precision of a class: [1,1001] each."""
    return curves.f1[number : number + 1], curves.precision[number : number + 1]


def _place(f1: np.ndarray, precise: np.ndarray, wanted: float | None) -> int | None:
    """Grid index of the proposal, None for none."""
    if wanted is None:
        return best_place(f1)
    enough = (precise[0] >= wanted) & (f1[0] > 0)  # no detection has a precision of 0
    return int(enough.argmax()) if enough.any() else None


def _confidence(place: int | None) -> float | None:
    return None if place is None else round(float(CONFIDENCES[place]), 3)
