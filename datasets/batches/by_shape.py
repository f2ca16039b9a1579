"""Batches of one shape (rect): images whose inputs have the same shape go together.

In validation the images of a batch have exactly the same shape, so that none gets more padding
than alone.  In training every batch is full: images are sorted by aspect ratio, and a batch is as
high and wide as the largest of its shapes.  The order within an aspect ratio and the order of the
batches are random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from ..images.input_size import Size

KeyT = TypeVar("KeyT")


def sorted_by_shape(shapes: Sequence[Size]) -> list[int]:
    """Indices of ``shapes`` from the widest to the highest, equal ones in order."""
    return sorted(range(len(shapes)), key=lambda index: shapes[index][0] / shapes[index][1])


def runs_of_one_shape(shapes: Sequence[Size]) -> list[tuple[int, int]]:
    """(start, stop) of every run of equal shapes."""
    ends = [i for i in range(1, len(shapes)) if shapes[i] != shapes[i - 1]]
    return list(zip([0, *ends], [*ends, len(shapes)], strict=True))


def mixed_by_shape(
    keys: Sequence[KeyT], shapes: Sequence[Size], batch_size: int, rng: np.random.Generator
) -> list[KeyT]:
    """``keys`` in an order in which each ``batch_size`` of them have similar ``shapes``; the last
    batch, if it is not full, stays last."""
    order = sorted_by_shape(shapes)
    full = len(order) // batch_size
    batches = [order[i * batch_size : (i + 1) * batch_size] for i in rng.permutation(full).tolist()]
    rest = order[full * batch_size :]
    return [keys[index] for batch in [*batches, rest] for index in batch]


def common_shape(shapes: Sequence[Size]) -> Size:
    """The smallest (height, width) that holds all of ``shapes``."""
    return max(height for height, _ in shapes), max(width for _, width in shapes)
