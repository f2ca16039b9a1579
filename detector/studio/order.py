"""In which order images are worth a look, for somebody who corrects labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ...files.errors import DetError
from ..evaluate.matching import match
from ..evaluate.tables import BoxTable, image_table
from ..examine.found import Found
from .table import Table
from .thumbs import small_picture

ORDERS = ("name", "unlabeled", "changed", "disagree", "uncertain", "unlike")
NEEDS_MODEL = ("disagree", "uncertain")
SURE = 0.25
"""Confidence from which a box of the checkpoint that no label matches counts as a disagreement."""
POSSIBLE = 0.1
"""Confidence from which a box counts for the uncertainty."""
IOU = 0.5
NEIGHBORS = 5
GRID = 8
MOST_COMPARED = 4000
"""Images that every image is compared with: of a larger set as many, evenly spread."""


def disagreement(table: Table, found: Sequence[Found | None]) -> np.ndarray:
    """How much checkpoint and labels disagree on each image [n].

    The sum of the scores of sure boxes that no label of their class matches (IoU 0.5), and for each
    label one minus the score of the box that matches it.  found: with the classes of the table.
    """
    boxes, images = _flat(found)
    truth = replace(image_table(0, table.boxes, table.labels), images=table.image)
    owners = match(boxes, truth, IOU)
    alone = (owners < 0) & (boxes.scores >= SURE)
    amount = np.bincount(images[alone], boxes.scores[alone], len(table))
    best = np.zeros(len(table.boxes))
    best[owners[owners >= 0]] = boxes.scores[owners >= 0]
    amount += np.bincount(table.image, 1 - best, len(table))
    amount[[n for n, one in enumerate(found) if one is None]] = 0
    return amount


def uncertainty(found: Sequence[Found | None]) -> np.ndarray:
    """The mean of 4 s (1 - s) over the possible boxes of each image [n]: 1 where every score is
    0.5; 0 where there is no box."""
    amount = np.zeros(len(found))
    for number, one in enumerate(found):
        scores = one.above(POSSIBLE).scores if one else np.zeros(0)
        if len(scores):
            amount[number] = (4 * scores * (1 - scores)).mean()
    return amount


def strangeness(images: Sequence[Path]) -> np.ndarray:
    """How unlike the rest each picture is [n]: the mean distance to its nearest neighbors, of
    pictures reduced to 8 x 8 pixels.  Images that cannot be read have 0."""
    rows = np.stack([_reduced(path) for path in images]) if images else np.zeros((0, 1))
    others = rows[:: max(1, -(-len(rows) // MOST_COMPARED))]
    squares = (others**2).sum(axis=1)
    amount = np.zeros(len(rows))
    for start in range(0, len(rows), 512):
        part = rows[start : start + 512]
        distance = (part**2).sum(axis=1)[:, None] + squares - 2 * part @ others.T
        nearest = np.sort(np.maximum(distance, 0), axis=1)[:, 1 : NEIGHBORS + 1]  # 0: itself
        if nearest.shape[1]:
            amount[start : start + 512] = np.sqrt(nearest).mean(axis=1)
    return amount


def _reduced(path: Path) -> np.ndarray:
    """[GRID * GRID * 3] floats."""
    try:
        picture = cv2.imdecode(np.frombuffer(small_picture(path), np.uint8), cv2.IMREAD_COLOR)
    except (DetError, OSError):
        picture = None
    if picture is None:
        return np.zeros(GRID * GRID * 3, np.float32)
    small = cv2.resize(picture, (GRID, GRID), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32).ravel() / 255


def _flat(found: Sequence[Found | None]) -> tuple[BoxTable, np.ndarray]:
    """All boxes as one table, and the image of each."""
    given = [(number, one) for number, one in enumerate(found) if one is not None]
    counts = [len(one.labels) for _, one in given]
    images = np.repeat(np.array([number for number, _ in given], np.int64), counts)
    empty = Found(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))
    every = [one for _, one in given] or [empty]
    table = image_table(
        0, np.concatenate([one.boxes for one in every]),
        np.concatenate([one.labels for one in every]),
        np.concatenate([one.scores for one in every]),
    )  # fmt: skip
    return replace(table, images=images), images
