"""A Record: one image of a data set as annotated."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Record:
    """One image of a data set as annotated.

    path: the image.  size: (height, width) after EXIF orientation.  boxes: [N,4] float32 xyxy
    pixels.  labels: [N] int64 class ids.  crowd: [N] bool, boxes around a group, which are not
    trained on and count neither way in the evaluation; None: no box is one.  area: [N] float32
    pixels, the area of the object where the annotation gives it; None: that of its box.
    """

    path: Path
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray | None = None
    area: np.ndarray | None = None

    def single_class(self) -> Record:
        """The record with every label 0."""
        return replace(self, labels=np.zeros_like(self.labels))

    def only(self, classes: Collection[int]) -> Record:
        """The record with the boxes of some classes, whose numbers stay."""
        return self.chosen(np.isin(self.labels, list(classes)))

    def renumbered(self, numbers: np.ndarray) -> Record:
        """The record with new class numbers.  numbers: [classes] int64, the new one of each.

        Where this makes two equal boxes one class, one of them is kept.
        """
        labels = numbers[self.labels]
        record = replace(self, labels=labels)
        if len(set(labels.tolist())) == len(set(self.labels.tolist())):
            return record
        crowd = np.zeros(len(labels), bool) if self.crowd is None else self.crowd
        rows = np.column_stack((labels, self.boxes, crowd))
        first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
        return record if len(first) == len(labels) else record.chosen(first)

    def without_crowd(self) -> Record:
        """The record without the boxes around groups; itself if it has none."""
        if self.crowd is None:
            return self
        keep = ~self.crowd
        area = None if self.area is None else self.area[keep]
        return Record(self.path, self.size, self.boxes[keep], self.labels[keep], area=area)

    def chosen(self, keep: np.ndarray) -> Record:
        """The record with some of its boxes.  keep: [N] bool, or their numbers."""
        crowd = None if self.crowd is None else self.crowd[keep]
        area = None if self.area is None else self.area[keep]
        boxes, labels = self.boxes[keep], self.labels[keep]
        return replace(self, boxes=boxes, labels=labels, crowd=crowd, area=area)
