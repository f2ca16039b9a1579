"""Which boxes of an image were missed, and which detections are false alarms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .evaluator import Evaluation
from .matching import match, pair_iou
from .metrics import CURVE_IOU
from .tables import BoxTable


@dataclass(frozen=True)
class Checked:
    """Ground truth and detections of one image at a confidence, matched at IoU 0.5.

    missed: [G] bool, rows of ``truth``.  false: [D] bool, rows of ``found``.  Crowd boxes and
    their detections are neither.  overlap: mean IoU of the detections with their true boxes, nan
    where none has one.
    """

    truth: BoxTable
    found: BoxTable
    missed: np.ndarray
    false: np.ndarray
    conf: float
    overlap: float = math.nan

    @property
    def errors(self) -> int:
        return int(self.missed.sum() + self.false.sum())


def check(found: BoxTable, truth: BoxTable, evaluation: Evaluation) -> Checked:
    """Compare the boxes of one image at the best confidence of the evaluation."""
    conf = evaluation.metrics.best_conf
    found = found.select(found.scores >= np.float32(conf))
    owners = match(found, truth, CURVE_IOU)
    missed = ~truth.crowd
    missed[owners[owners >= 0]] = False
    hits = np.flatnonzero(owners >= 0)
    hits = hits[~truth.crowd[owners[hits]]]
    overlaps = pair_iou(found, truth, hits, owners[hits])
    overlap = float(overlaps.mean()) if len(hits) else math.nan
    return Checked(truth, found, missed, owners < 0, conf, overlap)


def checked_images(evaluation: Evaluation) -> list[tuple[int, Checked]]:
    """Place among the measured images, and boxes, of each image."""
    return [
        (place, check(found, truth, evaluation))
        for place, (found, truth) in enumerate(evaluation.collector.tables())
    ]


def worst_images(evaluation: Evaluation) -> list[tuple[int, Checked]]:
    """Place among the measured images, and boxes, of each image with an error; the worst first."""
    wrong = [(place, checked) for place, checked in checked_images(evaluation) if checked.errors]
    return sorted(wrong, key=lambda image: -image[1].errors)


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """Boxes [N,4] of a BoxTable as corners."""
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1)
