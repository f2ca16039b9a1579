"""Why an AP is near 0: what this run's own data, size and length make likely."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...datasets.formats.record import Record
from ...datasets.images.image import scaled_size
from ...files.counted import counted
from .assemble import Run

POOR = 0.1
"""AP below which reasons are looked for."""
FEW_IMAGES, FEW_STEPS = 100, 500
TINY_SIDE = 8
"""Pixels at the training size: the stride of the finest level."""
LARGE_SHARE = 0.3


def reasons(run: Run, ap: float | None, updates: int, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Likely reasons, the most certain first; empty where the AP is not poor.

    ap: of the best weights; None where there was nothing to measure with.  updates: steps of the
    optimizer.  rows: of results.csv.
    """
    boxes = sum(len(record.labels) for record in run.val.records)
    if not boxes:
        return [f"no image of {run.config.split} has a box: there is nothing to measure with"]
    if ap is not None and ap >= POOR:
        return []
    found = [
        _other_classes(run, boxes),
        tiny_boxes(run),
        _few_images(run),
        _short(updates, rows),
    ]
    return [reason for reason in found if reason]


def _other_classes(run: Run, boxes: int) -> str | None:
    """Boxes to validate of classes that train hardly shows."""
    train, val = (_counts(scan.records, len(run.class_names)) for scan in (run.train, run.val))
    missing = [i for i in np.flatnonzero(val).tolist() if not train[i]]
    if not missing or val[missing].sum() < LARGE_SHARE * boxes:
        return None
    names = ", ".join(run.class_names[i] for i in missing[:5]) + (", ..." if missing[5:] else "")
    return (
        f"{val[missing].sum()} of {counted(boxes, 'box')} in {run.config.split} are of classes "
        f"that train never shows ({names})"
    )


def _counts(records: Sequence[Record], classes: int) -> np.ndarray:
    labels = np.concatenate([np.empty(0, np.int64), *(record.labels for record in records)])
    return np.bincount(labels, minlength=classes)


def tiny_boxes(run: Run) -> str | None:
    """Boxes that the input size makes smaller than a cell of the finest level."""
    sides = []
    for record in run.val.records:
        corners = record.boxes.reshape(-1, 4)
        height, width = scaled_size(record.size, run.image_size.whole)
        share = max(height, width) / max(record.size)
        sides.append((corners[:, 2:] - corners[:, :2]).min(1) * share)
    below = np.concatenate([np.empty(0), *sides]) < TINY_SIDE
    share = float(below.mean()) if len(below) else 0.0
    if share < LARGE_SHARE:
        return None
    return (
        f"{share:.0%} of the boxes are less than {TINY_SIDE} pixels high or wide at "
        f"imgsz={run.image_size}: use a larger imgsz"
    )


def _few_images(run: Run) -> str | None:
    images = len(run.train.records)
    if images >= FEW_IMAGES:
        return None
    return (
        f"{counted(images, 'training image')}: enough to see that everything runs, too few to "
        "learn from; some hundred are a start"
    )


def _short(updates: int, rows: Sequence[dict[str, Any]]) -> str | None:
    if updates >= FEW_STEPS:
        return None
    return (
        f"{counted(updates, 'step')} in {counted(len(rows), 'epoch')} are few for a start from "
        "scratch: use more epochs, or a pretrained model (det weights list)"
    )
