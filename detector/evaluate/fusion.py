"""Weighted boxes fusion: what several models, or several looks of one model, say of an image.

Source: Solovyev, Wang, Gabruseva, "Weighted boxes fusion: ensembling boxes from different object
detection models" (arXiv 1910.13302, section 3).  The rule:

1. All boxes of a class are taken by descending score.  Each one joins the fused box that it
   overlaps most, if their IoU is above SAME; else it begins a new one.
2. A fused box is the mean of its boxes, weighted by their scores, and is computed anew with each
   box that joins (equations 2 and 3).  Its score is the mean of their scores (equation 1).
3. At the end the score is multiplied by T / N, with T boxes in it and N voters (equation 5): what
   few of the voters found counts less.

One thing is added: a fused box has at most one box of each voter.  What a voter says of an image is
past NMS, or from a head that needs none, so its boxes are different objects, however much they
overlap.  (In crowded images this is worth 0.02 AP; docs/log.md.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ...datasets.boxes import overlaps
from ..options.detect import DetectOptions
from .postprocess import Detections

SAME = 0.55
"""IoU above which two boxes are one object; the paper's best value."""


def fuse(parts: Sequence[Detections]) -> Detections:
    """The detections of an image by all of its voters as one, best first, on the CPU.

    parts: of each voter, in the same pixels and with the same class ids; an empty one has voted.
    """
    boxes = torch.cat([part.boxes for part in parts]).double().cpu().numpy()
    scores = torch.cat([part.scores for part in parts]).double().cpu().numpy()
    labels = torch.cat([part.labels for part in parts]).cpu().numpy()
    voters = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    order = np.argsort(-scores, kind="stable")
    found = [
        (*_fuse_class(boxes[rows], scores[rows], voters[rows], len(parts)), label)
        for label in np.unique(labels).tolist()
        for rows in [order[labels[order] == label]]
    ]
    if not found:
        return parts[0].cpu()
    fused = Detections(
        torch.from_numpy(np.concatenate([each[0] for each in found])).float(),
        torch.from_numpy(np.concatenate([each[1] for each in found])).float(),
        torch.cat([torch.full((len(each[1]),), each[2]) for each in found]),
    )
    return fused.select(fused.scores.argsort(descending=True, stable=True))


def _fuse_class(
    boxes: np.ndarray, scores: np.ndarray, voters: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fused boxes [F,4] and scores [F] of one class.  boxes: [M,4], scores: [M], best first.
    voters: [M] int, which of ``count`` said it."""
    fused, sums = np.empty_like(boxes), np.zeros_like(boxes)
    weight, heard = np.zeros(len(scores)), np.zeros((len(scores), count), bool)
    number = 0
    for box, score, voter in zip(boxes, scores.tolist(), voters.tolist(), strict=True):
        overlap = np.where(heard[:number, voter], 0.0, overlaps(fused[:number], box[None])[:, 0])
        place = int(overlap.argmax()) if number else 0
        if not number or overlap[place] <= SAME:
            place, number = number, number + 1
        sums[place] += score * box
        weight[place] += score
        heard[place, voter] = True
        fused[place] = sums[place] / weight[place]
    return fused[:number], weight[:number] / count  # their mean, times T / N


def heard(detect: DetectOptions, voters: int) -> DetectOptions:
    """The options of each of several voters.

    A box counts from a share of the confidence on: what reaches the confidence together may be
    weak in each of them.
    """
    lowest = detect.class_conf
    return replace(
        detect,
        conf=detect.conf / voters,
        class_conf=lowest and tuple(conf / voters for conf in lowest),
    )


def fused_detections(parts: Sequence[Detections], detect: DetectOptions) -> Detections:
    """``fuse``, and of that what ``detect`` lets pass.  parts: of voters that were ``heard``."""
    found = fuse(parts)
    lowest = torch.tensor(detect.class_conf or (detect.conf,))
    lowest = lowest[found.labels] if detect.class_conf else lowest
    return found.select(found.scores >= lowest).select(slice(detect.max_det))
