"""Distillation: what a student learns from the predictions of a teacher, beside the labels.

Teacher and student see the same images, and their anchor points are the same, so predictions are
compared point by point.  For one branch, with the teacher's highest class score w of a point, of
the POINTS points with the highest w in each image, and S = max(sum of w over the batch, 1):

- cls: Kullback-Leibler divergence of the two class probabilities (Bernoulli, all points and
  classes), / S.
- box: sum of ``w * (1 - CIoU)`` of the two boxes, / S.
- dfl: the distances.  With R = 1, L1 of the four sides as a share of the image size.  With R > 1
  and as many bins in the teacher, the divergence of the two distributions (Zheng et al. 2022,
  "Localization Distillation", arXiv 2102.12252); with other bins, the distribution focal loss
  against the teacher's distances.  Mean of the four sides, times w, / S.
- features: of the levels of the neck that are equally wide, 1 - Pearson correlation of each channel
  (Cao et al. 2022, "PKD", arXiv 2207.02039), the mean over channels and levels.

All are 0 where the student answers like the teacher.  The gains are those of the labels' loss.  A
branch of the student learns from the branch of the same name; one that the teacher lacks does not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ...datasets.nouns import Batch
from ..models.head import decode_boxes, distances_in_strides
from ..models.predictions import Predictions
from ..run.ranks import ALONE, Ranks
from .detection import Gains, distribution_focal_loss
from .iou import matched_ciou

POINTS = 300
"""Points of an image whose boxes are compared: those that the teacher is surest of."""

Features = Sequence[Tensor]
"""One [B,C,H,W] per level."""


@dataclass(frozen=True)
class Lesson:
    """What the teacher says of a batch.  features: of its neck; empty where no level is as wide as
    the student's.  Logits are in the student's order of classes."""

    outputs: Mapping[str, Predictions]
    features: Features = ()


class Teaching(Protocol):
    """A teacher: images [B,3,H,W] -> Lesson, without gradients.  about: which checkpoint it is."""

    about: Mapping[str, str]

    def __call__(self, images: Tensor) -> Lesson: ...

    def use(self, dtype: torch.dtype) -> None:
        """Compute in ``dtype`` from now on, if that gives the same answers."""


class Distillation:
    """The loss of a student against its teacher.

    gain: of the whole.  studied: the features of the student's neck for the same images, None where
    they are not compared.
    """

    def __init__(
        self,
        teacher: Teaching,
        gains: Gains,
        *,
        gain: float = 1.0,
        studied: Callable[[], Features] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.teacher, self.gains, self.gain = teacher, gains, gain
        self.studied, self.ranks = studied, ranks
        self.about = teacher.about

    def alone(self) -> Distillation:
        """The same loss over this rank's images only."""
        own = copy.copy(self)
        own.ranks = ALONE
        return own

    def use(self, dtype: torch.dtype) -> None:
        """The run computes in ``dtype`` from now on, and the teacher if it can."""
        self.teacher.use(dtype)

    def __call__(
        self,
        outputs: Mapping[str, Predictions],
        boxes: Mapping[str, Tensor],
        weights: Mapping[str, float],
        batch: Batch,
    ) -> Tensor:
        """The loss of this rank's share of the images, a scalar.  boxes: decoded [B,A,4] of each
        branch.  weights: of the branches in the loss of the labels."""
        lesson = self.teacher(batch.images)
        size = (batch.images.shape[-2], batch.images.shape[-1])
        total = torch.zeros((), device=batch.images.device)
        for name, taught in lesson.outputs.items():
            loss = self._branch(outputs[name], boxes[name], taught, size)
            total = total + weights[name] * loss
        if lesson.features and self.studied is not None:
            total = total + feature_loss(self.studied(), lesson.features) / self.ranks.size
        return self.gain * total

    def _branch(
        self, student: Predictions, boxes: Tensor, teacher: Predictions, size: tuple[int, int]
    ) -> Tensor:
        """Score and box losses of one branch.  size: height and width of the images."""
        known = teacher.logits.float()
        best = known.amax(-1).sigmoid()  # [B,A]
        weight, rows = best.topk(min(POINTS, best.shape[1]), 1)  # [B,K]
        share = self.ranks.sum(weight.sum()).clamp(min=1)
        cls = bernoulli_divergence(student.logits.float(), known).sum()
        where = rows[..., None].expand(-1, -1, 4)
        mine = boxes.gather(1, where).flatten(0, 1)  # [BK,4]
        theirs = decode_boxes(teacher).gather(1, where).flatten(0, 1)
        sides = self._sides(student, teacher, rows, (mine, theirs), size)
        whole = (theirs[:, 2:] > theirs[:, :2]).all(1)  # a box without an area teaches nothing
        weight = weight.flatten() * whole
        box = (weight * (1 - matched_ciou(mine, theirs))).sum()
        gains = self.gains
        return (gains.cls * cls + gains.box * box + gains.dfl * (weight * sides).sum()) / share

    @staticmethod
    def _sides(
        student: Predictions,
        teacher: Predictions,
        rows: Tensor,
        boxes: tuple[Tensor, Tensor],
        size: tuple[int, int],
    ) -> Tensor:
        """[BK] loss of the distances at the points ``rows`` [B,K].  boxes: of both there."""
        bins = student.reg_max
        if bins == 1:
            off = (boxes[0] - boxes[1]).abs()
            return (off[:, 0::2].sum(1) / size[1] + off[:, 1::2].sum(1) / size[0]) / 4
        own = _rows_of(student.distances, rows).view(-1, 4, bins)
        if teacher.reg_max == bins:
            theirs = _rows_of(teacher.distances, rows).view(-1, 4, bins)
            return categorical_divergence(own, theirs).mean(1)
        target = _rows_of(distances_in_strides(teacher), rows)
        return distribution_focal_loss(own, target).mean(1)


def _rows_of(values: Tensor, rows: Tensor) -> Tensor:
    """The points ``rows`` [B,K] of [B,A,N], as [BK,N] float32."""
    where = rows[..., None].expand(-1, -1, values.shape[-1])
    return values.gather(1, where).flatten(0, 1).float()


def bernoulli_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of two probabilities that are given as logits, element by element."""
    probability = teacher.sigmoid()
    own = F.softplus(student) - student * probability
    return own - (F.softplus(teacher) - teacher * probability)


def categorical_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of two distributions over the last dimension, given as logits."""
    known = teacher.log_softmax(-1)
    return (known.exp() * (known - student.log_softmax(-1))).sum(-1)


def feature_loss(student: Features, teacher: Features) -> Tensor:
    """1 - correlation of each channel over images and positions: the mean of all levels."""
    losses = []
    for own, theirs in zip(student, teacher, strict=True):
        correlation = (_standardized(own) * _standardized(theirs)).mean(0)  # [C]
        losses.append((1 - correlation).mean())
    return torch.stack(losses).mean()


def _standardized(feature: Tensor) -> Tensor:
    """[B,C,H,W] -> [BHW,C] float32, with mean 0 and variance 1 in each channel."""
    values = feature.float().movedim(1, -1).flatten(0, 2)
    variance, mean = torch.var_mean(values, 0, correction=0)
    return (values - mean) / (variance + 1e-6).sqrt()
