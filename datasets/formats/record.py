"""The nouns of annotation at rest: a Record is one image with its boxes, a Finding a flaw in a
file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Finding:
    """One thing found wrong.  id: a stable word such as ``label-class-range``; severity: ``error``
    (what was found is not used) or ``warning`` (used, perhaps mended in memory).  line: 1-based, 0
    for the whole file."""

    id: str
    severity: str
    path: Path
    line: int
    message: str


@dataclass(frozen=True)
class Record:
    """One image of a data set as annotated.

    path: the image.  size: (height, width) after EXIF orientation.  boxes: [N,4] float32 xyxy
    pixels. labels: [N] int64 class ids.
    """

    path: Path
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray

    def single_class(self) -> Record:
        """The record with every label 0."""
        return replace(self, labels=np.zeros_like(self.labels))
