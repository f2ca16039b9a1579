"""Folds of a cross-validation: which images of train validate in which fold (``val=2of5``).

Folds have about the same number of images and of boxes of each class; images that show the same
picture are in one fold.  The division follows from the images, their labels and the seed.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..edit.copies import group_images
from ..formats.record import Record
from ..sets.dataset import DatasetError, HoldOut
from .stratify import assign

_groups: dict[str, list[int]] = {}
"""Fingerprint of the last training split -> its groups: finding them decodes every image."""


def held_by_fold(
    records: Sequence[Record], num_classes: int, hold_out: HoldOut, fingerprint: str
) -> list[bool]:
    """Whether each image is held out by the fold.  fingerprint: of the split with these records.

    Raises DatasetError where a fold would be empty.
    """
    if fingerprint not in _groups:
        groups = group_images([record.path for record in records])
        _groups.clear()
        _groups[fingerprint] = groups
    count = hold_out.folds
    chosen = assign(records, _groups[fingerprint], num_classes, [1 / count] * count, hold_out.seed)
    if len(set(chosen)) < count:
        pictures = len(set(_groups[fingerprint]))
        raise DatasetError(
            f"{pictures} different training pictures are too few for {count} folds: use fewer folds"
        )
    return [place == hold_out.fold - 1 for place in chosen]
