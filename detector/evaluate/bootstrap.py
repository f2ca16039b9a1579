"""AP of re-drawn images: how far an AP, or the difference of two, would move with other images.

A bootstrap sample draws as many images as there are, with repetition (Efron & Tibshirani, "An
Introduction to the Bootstrap", 1993), so it is a whole-number weight per image.  What each
detection matches does not depend on the weights: it is found once per IoU threshold, and the
precision-recall curve is accumulated again with the weights.  The AP of weights is that of COCO's
evaluator on a data set in which the images are repeated; of detections with equal scores in one
image, COCO's evaluator takes those of each repetition in turn, and this one the first of all first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from .coco import IOUS, MAX_DETS, NUM_RECALLS
from .matching import match
from .tables import BoxTable

CELLS_A_CHUNK = 8_000_000
"""Weights of detections that are added up at once: about 200 MB."""
RECALLS = np.linspace(0.0, 1.0, NUM_RECALLS)


@dataclass(frozen=True)
class Ranked:
    """Detections of one class, best first.  images [D]: of each.  hits [T,D]: whether it matches a
    true box at each IoU threshold.  ignored [T,D]: whether it matches a crowd.  boxes [I]: true
    boxes of each image."""

    images: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    boxes: np.ndarray


def rank(found: BoxTable, truth: BoxTable, num_images: int, num_classes: int) -> list[Ranked]:
    """What every detection matches, by class.  found, truth: ``images`` are 0 to num_images - 1."""
    found = found.select(np.argsort(-found.scores, kind="stable"))
    found = found.select(_among_the_best(found, num_classes))
    owners = np.stack([match(found, truth, iou) for iou in IOUS])  # [T,D]
    crowd = np.append(truth.crowd, False)  # -1, no match, is the last one
    hits, ignored = (owners >= 0) & ~crowd[owners], crowd[owners]
    classes = []
    for label in range(num_classes):
        mine = np.flatnonzero(found.labels == label)
        real = truth.images[(truth.labels == label) & ~truth.crowd]
        boxes = np.bincount(real, minlength=num_images)
        classes.append(Ranked(found.images[mine], hits[:, mine], ignored[:, mine], boxes))
    return classes


def _among_the_best(found: BoxTable, num_classes: int) -> np.ndarray:
    """Which rows of a sorted table are among COCO's 100 of their image and class: [D] bool."""
    group = found.images * num_classes + found.labels
    order = np.argsort(group, kind="stable")
    first = np.searchsorted(group[order], group[order], "left")
    keep = np.empty(len(group), bool)
    keep[order] = np.arange(len(group)) - first < MAX_DETS[-1]
    return keep


def weighted_ap(classes: list[Ranked], weights: np.ndarray) -> np.ndarray:
    """AP at IoU 0.50:0.95 of each class in each sample: [B,C], nan where a sample has no box.

    weights: [B,I], how often each image is in each sample.
    """
    table = np.full((len(weights), len(classes)), np.nan)
    for column, ranked in enumerate(classes):
        size = max(CELLS_A_CHUNK // max(len(ranked.images), 1), 1)
        for start in range(0, len(weights), size):
            part = weights[start : start + size]
            table[start : start + size, column] = _class_ap(ranked, part)
    return table


def _class_ap(ranked: Ranked, weights: np.ndarray) -> np.ndarray:
    boxes = weights @ ranked.boxes  # [B]
    drawn = weights[:, ranked.images].astype(np.float64)  # [B,D]
    total = np.zeros(len(weights))
    for hits, ignored in zip(ranked.hits, ranked.ignored, strict=True):
        total += _curve_means(drawn, hits, ignored, boxes)
    return np.where(boxes > 0, total / len(ranked.hits), np.nan)


def _curve_means(
    drawn: np.ndarray, hits: np.ndarray, ignored: np.ndarray, boxes: np.ndarray
) -> np.ndarray:
    """Mean interpolated precision over COCO's recall points: [B].  drawn: [B,D] weights.

    The curve rises only where a detection hits, so these places are enough.
    """
    counted = np.cumsum(np.where(ignored, 0.0, drawn), 1)[:, hits]  # [B,H]
    right = np.cumsum(drawn[:, hits], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(right / counted)
        recall = np.nan_to_num(right / boxes[:, None])
    envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    means = np.zeros(len(drawn))
    for row, (points, heights) in enumerate(zip(recall, envelope, strict=True)):
        places = np.searchsorted(points, RECALLS, "left")
        means[row] = heights[places[places < len(heights)]].sum() / NUM_RECALLS
    return means


def samples(num_images: int, count: int, seed: int) -> np.ndarray:
    """Weights of bootstrap samples: [count, num_images]."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_images, np.full(num_images, 1.0 / num_images), size=count)


@dataclass(frozen=True)
class Difference:
    """AP of a and b, b - a, and the interval that holds the difference with the wanted
    probability; nan without a box."""

    a: float
    b: float
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.b - self.a

    @property
    def clear(self) -> bool:
        """Whether the interval is on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Comparison:
    """overall: of the mean over classes.  classes: of each class."""

    overall: Difference
    classes: list[Difference]


def compare(
    a: list[Ranked], b: list[Ranked], weights: np.ndarray, level: float = 0.95
) -> Comparison:
    """Compare two detectors on the same images (paired bootstrap, percentile interval).  weights:
    [B,I]."""
    whole = np.ones((1, weights.shape[1]), weights.dtype)
    points = (weighted_ap(a, whole), weighted_ap(b, whole))
    drawn = (weighted_ap(a, weights), weighted_ap(b, weights))
    overall = _difference(points, drawn, _mean, level)
    classes = [_difference(points, drawn, itemgetter((..., c)), level) for c in range(len(a))]
    return Comparison(overall, classes)


def _mean(table: np.ndarray) -> np.ndarray:
    """Mean over the classes that a sample has: [B]."""
    known = ~np.isnan(table)
    count = known.sum(1)
    total = np.where(known, table, 0.0).sum(1)
    return np.divide(total, count, out=np.full(len(table), np.nan), where=count > 0)


def _difference(
    points: tuple[np.ndarray, np.ndarray],
    drawn: tuple[np.ndarray, np.ndarray],
    reduced: Callable[[np.ndarray], np.ndarray],
    level: float,
) -> Difference:
    """points: AP of both on all images [1,C].  drawn: on the samples [B,C].  reduced: [B,C] ->
    [B]."""
    gains = reduced(drawn[1]) - reduced(drawn[0])
    gains = gains[~np.isnan(gains)]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(gains, (tail, 1.0 - tail)) if len(gains) else (np.nan, np.nan)
    a, b = (float(reduced(table)[0]) for table in points)
    return Difference(a, b, float(low), float(high))
