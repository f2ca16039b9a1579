"""Which detection matches which true box, by COCO's rule, for a whole data set at once.

Detections are matched in order of descending score.  Each one gets the free true box of its class
and image with the largest IoU, if that is at least the threshold.  A crowd box is matched only if
no other box can be; it may be matched many times, and its detections are ignored (COCO, "Detection
Evaluation"; Lin et al., arXiv 1405.0312).  Removing the detections below a confidence before or
after matching gives the same result, so one matching serves every point of a curve.

Only pairs that overlap enough are looked at one by one; everything before is array work in chunks.
Average precision is computed by COCO's evaluator (coco.py), not here.
"""

from __future__ import annotations

import numpy as np

from .tables import BoxTable

PAIRS_A_CHUNK = 4_000_000
"""Pairs of a detection and a true box that are compared at once: about 300 MB of work arrays."""


def match(found: BoxTable, truth: BoxTable, iou: float) -> np.ndarray:
    """Row of ``truth`` that each row of ``found`` matches: [D] int64, -1 for none."""
    num_classes = 1 + int(max(found.labels.max(initial=0), truth.labels.max(initial=0)))
    found_groups = found.images * num_classes + found.labels
    truth_groups = truth.images * num_classes + truth.labels
    rows, owners, overlaps = overlapping_pairs(found, truth, found_groups, truth_groups, iou)
    turn = np.empty(len(found), np.int64)
    turn[np.argsort(-found.scores, kind="stable")] = np.arange(len(found))
    # of equal overlaps COCO takes the later true box
    order = np.lexsort((-owners, -overlaps, truth.crowd[owners], turn[rows]))
    return _match_in_order(rows[order], owners[order], len(found), truth.crowd)


def confusion_matrix(
    found: BoxTable, truth: BoxTable, num_classes: int, iou: float = 0.45
) -> np.ndarray:
    """Counts [C+1,C+1] int64: row = true class, column = predicted class, last = background.

    First detections are matched within their class (``match``).  Then the remaining detections and
    true boxes are paired across classes, largest overlap first.  What is left is a false alarm
    (last row) or a missed box (last column).  Crowd boxes and their detections are left out.
    """
    owners = match(found, truth, iou)
    ignored = (owners >= 0) & truth.crowd[owners] if len(truth) else np.zeros(len(found), bool)
    free_truth = ~truth.crowd
    free_truth[owners[owners >= 0]] = False
    alone, missed = np.flatnonzero((owners < 0) & ~ignored), np.flatnonzero(free_truth)
    across = _match_across_classes(found.select(alone), truth.select(missed), iou)
    owners[alone[across >= 0]] = missed[across[across >= 0]]
    free_truth[owners[owners >= 0]] = False

    hit = (owners >= 0) & ~ignored
    false_alarm = owners < 0
    background = np.full(max(len(found), len(truth)), num_classes)
    rows = (truth.labels[owners[hit]], background[: false_alarm.sum()], truth.labels[free_truth])
    columns = (found.labels[hit], found.labels[false_alarm], background[: free_truth.sum()])
    cells = np.concatenate(rows) * (num_classes + 1) + np.concatenate(columns)
    counts = np.bincount(cells, minlength=(num_classes + 1) ** 2)
    return counts.reshape(num_classes + 1, num_classes + 1).astype(np.int64)


def _match_across_classes(found: BoxTable, truth: BoxTable, iou: float) -> np.ndarray:
    """Row of ``truth`` for each row of ``found`` of any class, largest overlap first: [D]."""
    rows, owners, overlaps = overlapping_pairs(found, truth, found.images, truth.images, iou)
    order = np.lexsort((-found.scores[rows], -overlaps))
    return _match_in_order(rows[order], owners[order], len(found), np.zeros(len(truth), bool))


def _match_in_order(
    rows: np.ndarray, owners: np.ndarray, num_found: int, crowd: np.ndarray
) -> np.ndarray:
    """Match pairs in the given order; each row and each owner (unless crowd) is used once."""
    result = [-1] * num_found
    free = [True] * len(crowd)
    reusable = crowd.tolist()
    for row, owner in zip(rows.tolist(), owners.tolist(), strict=True):
        if result[row] < 0 and free[owner]:
            result[row] = owner
            free[owner] = reusable[owner]
    return np.asarray(result, np.int64)


def overlapping_pairs(
    found: BoxTable,
    truth: BoxTable,
    found_groups: np.ndarray,
    truth_groups: np.ndarray,
    iou: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of ``found``, rows of ``truth`` and IoU of every pair of one group with IoU >= ``iou``.

    found_groups [D], truth_groups [G]: only rows with the same number are compared.
    """
    order = np.argsort(truth_groups, kind="stable")
    starts = np.searchsorted(truth_groups[order], found_groups, "left")
    counts = np.searchsorted(truth_groups[order], found_groups, "right") - starts
    ends = np.cumsum(counts)
    parts = []
    first = 0
    while first < len(found):
        base = ends[first] - counts[first]
        last = max(first + 1, int(np.searchsorted(ends, base + PAIRS_A_CHUNK, "right")))
        size = counts[first:last]
        rows = np.repeat(np.arange(first, last), size)
        place = np.arange(len(rows)) - np.repeat(ends[first:last] - size - base, size)
        owners = order[starts[rows] + place]
        overlaps = pair_iou(found, truth, rows, owners)
        keep = overlaps >= iou
        parts.append((rows[keep], owners[keep], overlaps[keep]))
        first = last
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    rows, owners, overlaps = (np.concatenate(column) for column in zip(*parts, strict=True))
    return rows, owners, overlaps


def pair_iou(found: BoxTable, truth: BoxTable, rows: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """IoU of pairs [P] float64; with a crowd box the share of the detection inside it (COCO)."""
    a, b = found.boxes[rows], truth.boxes[owners]
    corner = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    sides = (corner - np.maximum(a[:, :2], b[:, :2])).clip(0)
    inside = sides[:, 0] * sides[:, 1]
    area = a[:, 2] * a[:, 3]
    union = np.where(truth.crowd[owners], area, area + b[:, 2] * b[:, 3] - inside)
    return np.divide(inside, union, out=np.zeros_like(inside), where=inside > 0)
