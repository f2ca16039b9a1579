"""Precision, recall and F1 by confidence threshold, in steps of 0.001."""

from __future__ import annotations

import numpy as np

from .tables import BoxTable

CONFIDENCES = np.linspace(0, 1, 1001).astype(np.float32)
"""float32 like the scores, so that a score of 0.7 counts at the threshold 0.7."""


def confidence_curves(
    found: BoxTable, truth: BoxTable, owners: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 [C,1001] of the detections with a score of at least each of
    CONFIDENCES.

    owners: [D], the row of ``truth`` that each row of ``found`` matched, -1 for none.  Detections
    of crowd boxes are ignored.  Precision is 0 without detections; a class without ground truth has
    a row of nan.
    """
    hit = owners >= 0
    counted = np.ones(len(found), bool)
    counted[hit] = ~truth.crowd[owners[hit]]
    num_found = _counts_above(found.select(counted), num_classes)
    num_right = _counts_above(found.select(counted & hit), num_classes)
    num_true = np.bincount(truth.labels[~truth.crowd], minlength=num_classes).astype(float)[:, None]
    num_true[num_true == 0] = np.nan
    precision = np.where(np.isnan(num_true), np.nan, num_right / np.maximum(num_found, 1))
    return precision, num_right / num_true, 2 * num_right / (num_found + num_true)


def _counts_above(table: BoxTable, num_classes: int) -> np.ndarray:
    """How many rows of each class have a score of at least each of CONFIDENCES: [C,1001]."""
    reached = np.searchsorted(CONFIDENCES, table.scores, "right")  # grid points up to the score
    bins = len(CONFIDENCES) + 1
    counts = np.bincount(table.labels * bins + reached, minlength=num_classes * bins)
    counts = counts.reshape(num_classes, bins)[:, 1:]
    return counts[:, ::-1].cumsum(1)[:, ::-1]


def best_place(f1: np.ndarray) -> int | None:
    """Grid index of the largest F1 averaged over classes; f1: [C,1001].

    If a range of confidences is equally good: the middle of the range that starts lowest.  None if
    no class has an F1 above 0.
    """
    mean = class_mean(f1)
    if not mean.max() > 0:
        return None
    best = np.isclose(mean, mean.max(), rtol=0, atol=1e-12)
    first = int(best.argmax())
    length = int(np.append(best[first:], False).argmin())
    return first + (length - 1) // 2


def class_mean(curves: np.ndarray) -> np.ndarray:
    """Average [N] of curves [C,N] over the classes that have one; nan if none has."""
    present = curves[~np.isnan(curves).any(1)]
    return present.mean(0) if len(present) else np.full(curves.shape[1], np.nan)
