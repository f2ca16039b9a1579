"""Boxes of a whole data set as columns, for matching and COCO's evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

Array = np.ndarray | torch.Tensor


@dataclass(frozen=True)
class BoxTable:
    """Boxes of many images, one row per box: detections or ground truth.

    images: [N] int64, number of the image.  boxes: [N,4] float64 xywh pixels, as in COCO.
    labels: [N] int64.  scores: [N] float32, 1 for ground truth.  crowd: [N] bool, a box around a
    group.  areas: [N] float64, which sort boxes into small, medium and large.
    """

    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        return self.images, self.boxes, self.labels, self.scores, self.crowd, self.areas

    def select(self, keep: np.ndarray) -> BoxTable:
        """The rows at ``keep``: a mask [N] or indices."""
        return BoxTable(*(column[keep] for column in self.columns))


def image_table(
    image: int,
    boxes: Array,
    labels: Array,
    scores: Array | None = None,
    crowd: Array | None = None,
    areas: Array | None = None,
) -> BoxTable:
    """The rows of one image; boxes: [N,4] xyxy.  areas: default those of the rectangles."""
    corners = array(boxes, np.float64).reshape(-1, 4)
    size = len(corners)
    sides = corners[:, 2:] - corners[:, :2]
    return BoxTable(
        np.full(size, image, np.int64),
        np.concatenate((corners[:, :2], sides), 1),
        array(labels, np.int64),
        np.ones(size, np.float32) if scores is None else array(scores, np.float32),
        np.zeros(size, bool) if crowd is None else array(crowd, bool),
        sides[:, 0] * sides[:, 1] if areas is None else array(areas, np.float64),
    )


def array(values: Array, dtype: type) -> np.ndarray:
    """A copy as numpy, from any device."""
    plain = values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    return plain.astype(dtype)


def check_table(table: BoxTable, num_classes: int, what: str) -> None:
    """Raise ValueError if columns differ in length, a number is not finite or a label is not below
    ``num_classes``; ``what`` names the table."""
    lengths = [len(column) for column in table.columns]
    if len(set(lengths)) > 1:
        raise ValueError(f"{what}: expected one value per box in every column, got {lengths[1:]}")
    if not (np.isfinite(table.boxes).all() and np.isfinite(table.scores).all()):
        raise ValueError(f"{what}: a box or score is not finite")
    low, high = table.labels.min(initial=0), table.labels.max(initial=0)
    if len(table) and not 0 <= low <= high < num_classes:
        bad = low if low < 0 else high
        raise ValueError(f"{what}: class id {bad}, expected 0 to {num_classes - 1}")


def join_tables(tables: Sequence[BoxTable]) -> BoxTable:
    """One table with the rows of all, in order."""
    nothing = image_table(0, np.empty((0, 4)), np.empty(0))
    columns = zip(*(table.columns for table in (nothing, *tables)), strict=True)
    return BoxTable(*(np.concatenate(column) for column in columns))
