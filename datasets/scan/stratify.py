"""Images divided into parts of given sizes, every class as evenly as it goes.

The rarest class first, by iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the
Stratification of Multi-Label Data", 2011).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..formats.record import Record


def assign(
    records: Sequence[Record], groups: Sequence[int], num_classes: int, shares: Sequence[float],
    seed: int,
) -> list[int]:  # fmt: skip
    """The split (place in ``shares``) of every image.

    groups: images with the same number stay together.
    """
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    keys = np.random.default_rng(seed).permutation(list(members)).tolist()
    # A column per class, and a last one for images without a box.
    counts = np.zeros((len(keys), num_classes + 1))
    for row, key in enumerate(keys):
        for number in members[key]:
            labels = records[number].labels
            counts[row] += np.bincount(labels, minlength=num_classes + 1)
            counts[row, -1] += not len(labels)
    sizes = np.array([len(members[key]) for key in keys], float)
    placed = _stratify(counts, sizes, np.array(shares))
    chosen = [0] * len(records)
    for key, place in zip(keys, placed, strict=True):
        for number in members[key]:
            chosen[number] = place
    return chosen


def _stratify(counts: np.ndarray, sizes: np.ndarray, shares: np.ndarray) -> list[int]:
    """The split of every group.  counts: [groups, classes].  sizes: images of each group."""
    wanted = shares[:, None] * counts.sum(axis=0)  # [splits, classes], boxes still to come
    room = shares * sizes.sum()
    placed = np.full(len(counts), -1)
    remaining = counts.sum(axis=0)
    while (placed < 0).any():
        column = int(np.where(remaining > 0, remaining, np.inf).argmin())
        having = np.flatnonzero((placed < 0) & (counts[:, column] > 0))
        for group in having[np.argsort(-counts[having, column], kind="stable")]:
            place = _neediest(wanted[:, column], shares, room, sizes[group])
            placed[group] = place
            wanted[place] -= counts[group]
            room[place] -= sizes[group]
            remaining -= counts[group]
        remaining[column] = 0
    return [int(place) for place in placed]


def _neediest(wanted: np.ndarray, shares: np.ndarray, room: np.ndarray, size: float) -> int:
    """The split that lacks most of a class for its share; among equals the one with most room.

    A group larger than the room of a split does not go there, unless it fits nowhere.
    """
    fits = room >= size - 0.5
    if not fits.any():
        return int(room.argmax())
    lack = np.where(fits, wanted / shares, -np.inf)
    best = np.flatnonzero(lack >= lack.max() - 1e-9)
    return int(best[room[best].argmax()])
