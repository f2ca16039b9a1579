"""What a detector finds in images, as arrays in the classes of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..predict.results import Results


@dataclass(frozen=True)
class Found:
    """In one image, best first.  boxes [D,4] float32 xyxy pixels, labels [D] int64, scores [D]."""

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, results: Results) -> Found:
        """The boxes of a prediction."""
        boxes = results.boxes
        return cls(
            np.asarray(boxes.xyxy, np.float32),
            np.asarray(boxes.cls, np.int64),
            np.asarray(boxes.conf, np.float32),
        )

    def above(self, confidence: float) -> Found:
        """Those with at least this score."""
        return self.chosen(self.scores >= confidence)

    def chosen(self, keep: np.ndarray) -> Found:
        """Some of them.  keep: [D] bool, or their numbers."""
        return Found(self.boxes[keep], self.labels[keep], self.scores[keep])

    def named(self, names: Sequence[str], classes: Mapping[str, int]) -> Found:
        """With the class numbers of a data set, matched by name; boxes of others are left out.

        names: of the detector.  classes: name -> number in the data set.
        """
        numbers = np.array([classes.get(name, -1) for name in names], np.int64)
        labels = numbers[self.labels] if len(self.labels) else self.labels
        kept = Found(self.boxes, labels, self.scores)
        return kept.chosen(labels >= 0)
