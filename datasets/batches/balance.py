"""Repeat-factor sampling: images of rare classes are drawn more often than others.

Gupta et al. 2019 (LVIS, arXiv 1908.03195): with the share f(c) of the training images that show
class c and a threshold t, the repeat factor of a class is ``r(c) = max(1, sqrt(t / f(c)))``, and
that of an image is the largest of its classes.  An image without boxes has 1.

LVIS makes an epoch longer by these factors.  Here it keeps its length, so that schedules stay as
they are: an image is drawn ``length * r(image) / sum of r`` times per epoch, rounded up or down at
random (systematic sampling), and images of common classes are drawn less often in return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..formats.record import Record

SHOWN = 6
"""Classes that the line for the log names."""


@dataclass(frozen=True)
class Balance:
    """threshold: t.  shares: [C] f(c).  factors: [N] r(image).  gains: [C] how many times as often
    as in a plain epoch images with a class are drawn; NaN for a class without a box."""

    threshold: float
    shares: np.ndarray
    factors: np.ndarray
    gains: np.ndarray

    def line(self, class_names: Sequence[str]) -> str:
        """Which classes gain how much: ``images of classes in less ...: rare x1.3, ...``"""
        order = np.argsort(-self.gains, kind="stable")[: np.isfinite(self.gains).sum()]
        named = [f"{class_names[c]} x{self.gains[c]:.2f}" for c in order]
        if len(named) > SHOWN:
            named = [*named[: SHOWN - 1], f"{len(named) - SHOWN} more", named[-1]]
        return (
            f"images of classes in less than {100 * self.threshold:.3g} % of the training images "
            f"are drawn more often: {', '.join(named)}"
        )


def balance_of(
    records: Sequence[Record], num_classes: int, threshold: float | None
) -> Balance | None:
    """The repeat factors of a training split; None if no class is rarer than the threshold.

    threshold: None takes the median share of the classes that have a box.
    """
    labels = [np.unique(record.without_crowd().labels) for record in records]
    image = np.repeat(np.arange(len(records)), [len(own) for own in labels])
    label = np.concatenate([np.zeros(0, np.int64), *labels])  # [P] pairs of image and class
    shares = np.bincount(label, minlength=num_classes) / len(records)
    present = shares > 0
    if threshold is None:
        threshold = float(np.median(shares[present])) if present.any() else 0.0
    of_class = np.sqrt(threshold / np.where(present, shares, 1.0)).clip(min=1.0)
    factors = np.ones(len(records))
    np.maximum.at(factors, image, of_class[label])
    if factors.max() == factors.min():
        return None
    drawn = np.bincount(label, factors[image], num_classes) / factors.sum()
    gains = np.divide(drawn, shares, out=np.full(num_classes, np.nan), where=present)
    return Balance(threshold, shares, factors, gains)


def draw_epoch(rng: np.random.Generator, weights: np.ndarray, total: int) -> np.ndarray:
    """[total] indices in random order; index i occurs ``total * weights[i] / sum`` times, rounded
    up or down at random (systematic sampling)."""
    order = rng.permutation(len(weights))
    ends = np.cumsum(weights[order])
    ends *= total / ends[-1]
    ends[-1] = total  # without rounding
    drawn = np.floor(ends + rng.random()).astype(np.int64)
    counts = drawn - np.concatenate(((0,), drawn[:-1]))
    return rng.permutation(np.repeat(order, counts))


def occurrences(drawn: np.ndarray) -> np.ndarray:
    """[N] how often each entry has occurred before: 5 3 5 5 -> 0 0 1 2."""
    order = np.argsort(drawn, kind="stable")
    ordered = drawn[order]
    numbers = np.empty_like(order)
    numbers[order] = np.arange(len(drawn)) - np.searchsorted(ordered, ordered)
    return numbers
