"""Predictions + Batch -> LossOutput: classification, box and distance losses of each head branch.

For one branch, with the target score w of a positive point (assign.py) and S = max(sum of w over
the batch, 1):

- cls: binary cross-entropy of all points and classes against w at the positive's class, / S.
  Written as ``softplus(x) - x * w``, so no dense target is ever built.  With class weights the
  terms of a class, positive and negative, are multiplied by its weight; S stays.
- box: sum of ``w * (1 - CIoU)`` / S.
- dfl: the distances.  With R = 1, L1 of the four sides as a share of the image size (YOLO26); with
  R > 1 the distribution focal loss (Li et al. 2020, arXiv 2006.04388, equation 6).  Mean of the
  four sides, times w, / S.

Dual heads: ``a * one-to-many + (1 - a) * one-to-one`` with a falling from 0.8 to 0.1 over the run
(YOLO26's ProgLoss), so the head that is deployed has the larger weight at the end.  A single head
has weight 1, an auxiliary branch 0.25, as in YOLOv9's training.

Everything runs in float32, also under autocast: near 640 neighboring half-precision numbers are 0.5
pixels apart.  The total is multiplied by the number of images, so that gradients of accumulated
batches add up; S is that of the micro-batch.  With several ranks, S and the number of images are
those of all ranks, so that the losses of the ranks, and their gradients, add up too.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ...datasets.nouns import Batch
from ..models.head import decode_boxes
from ..models.predictions import AUXILIARY, ONE_TO_MANY, ONE_TO_ONE, Predictions
from ..run.ranks import ALONE, Ranks
from .assign import Assigner, Assignment, assign, candidate_pairs
from .iou import matched_ciou
from .labeled import LabeledClasses

PARTS = ("box", "cls", "dfl")
AUXILIARY_SHARE = 0.25
Head = tuple[Predictions, Tensor, Assignment]
"""Predictions of a branch, its decoded boxes [B,A,4], and its assignment."""


@dataclass(frozen=True)
class LossOutput:
    """total: scalar to differentiate.  parts: detached scalars by name: box, cls, dfl of the branch
    that is deployed, and with a teacher distill of all branches.  num_pos: positives of the branch
    that is deployed, a number on the device."""

    total: Tensor
    parts: dict[str, Tensor]
    num_pos: Tensor


@dataclass(frozen=True)
class Gains:
    """Weights of the three parts."""

    box: float = 7.5
    cls: float = 0.5
    dfl: float = 1.5


class TeacherLoss(Protocol):
    """What predictions lose against those of a teacher (distill.py).  about: which checkpoint the
    teacher is, for the files of the run."""

    about: Mapping[str, str]

    def __call__(
        self,
        outputs: Mapping[str, Predictions],
        boxes: Mapping[str, Tensor],
        weights: Mapping[str, float],
        batch: Batch,
    ) -> Tensor: ...

    def alone(self) -> TeacherLoss:
        """The same loss over this rank's images only."""

    def use(self, dtype: torch.dtype) -> None:
        """The run computes in ``dtype`` from now on."""


class DetectionLoss:
    """The loss of a run.  ``progress`` in 0..1, the finished share of it, is set by the trainer."""

    def __init__(
        self,
        gains: Gains,
        *,
        assigners: Mapping[str, Assigner] | None = None,
        ranks: Ranks = ALONE,
        class_weights: Tensor | None = None,
    ) -> None:
        """class_weights: [C] float32 on the device of the model; None: all are 1."""
        self.gains = gains
        self.class_weights = class_weights
        self.ranks = ranks
        self.assigners = assigners or {
            ONE_TO_MANY: Assigner(topk=10),
            ONE_TO_ONE: Assigner(topk=7, keep=1),
            AUXILIARY: Assigner(topk=10),
        }
        self.progress = 0.0
        self.labeled: LabeledClasses | None = None
        """Which classes are labeled in which image; None: all in all."""
        self.distillation: TeacherLoss | None = None
        """Added to the loss of the labels, as the part ``distill``; None: there is no teacher."""
        self.frozen: dict[str, Assignment] | None = None
        """If not None, the first assignment of each branch is stored here and used again, so that
        two passes over one batch can be compared although ties might be assigned differently."""

    def branch_weights(self, branches: Mapping[str, Predictions]) -> dict[str, float]:
        """Weight of each branch in the total; for dual heads [0.8, 0.2] at the start of a run and
        [0.1, 0.9] at its end."""
        many = 0.8 - 0.7 * min(max(self.progress, 0.0), 1.0)
        dual = ONE_TO_MANY in branches and ONE_TO_ONE in branches
        main = {ONE_TO_MANY: many, ONE_TO_ONE: 1.0 - many} if dual else {}
        return {
            name: AUXILIARY_SHARE if name == AUXILIARY else main.get(name, 1.0) for name in branches
        }

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts of a loss."""
        return (*PARTS, "distill") if self.distillation is not None else PARTS

    def alone(self, *, taught: bool = False) -> DetectionLoss:
        """The same loss over this rank's images only, and without the teacher unless ``taught``."""
        own = copy.copy(self)
        own.ranks = ALONE
        own.distillation = self.distillation.alone() if taught and self.distillation else None
        return own

    def __call__(self, outputs: Mapping[str, Predictions], batch: Batch) -> LossOutput:
        """outputs: Predictions per branch.  batch: on the same device.  The total is multiplied by
        the number of images, as the published settings assume.  With several ranks all must call
        this at once; each gets its share of the loss."""
        device_type = batch.images.device.type
        with torch.autocast(device_type, enabled=False):
            weights = self.branch_weights(outputs)
            boxes = {name: decode_boxes(outputs[name]) for name in outputs}  # [B,A,4] float32
            positives = self._assign(outputs, boxes, batch)
            parts = [
                self._parts(
                    [(outputs[name], boxes[name], positives[name]) for name in names], batch
                )
                for names in branch_groups(outputs, batch)
            ]
            losses = torch.cat(parts) / self._scales(positives)  # [H,3]
            shares = [
                weights[name] * loss for name, loss in zip(outputs, losses.sum(1), strict=True)
            ]
            total = torch.stack(shares).sum()
            taught = {}
            if self.distillation is not None:
                loss = self.distillation(outputs, boxes, weights, batch)
                total, taught = total + loss, {"distill": loss.detach()}
        shown = ONE_TO_ONE if ONE_TO_ONE in outputs else ONE_TO_MANY
        of_shown = losses.detach()[list(outputs).index(shown)]
        named = dict(zip(PARTS, of_shown.unbind(), strict=True)) | taught
        images = len(batch) * self.ranks.size  # the loader gives every rank equally many
        return LossOutput(total * images, named, positives[shown].positive.sum())

    def _scales(self, positives: Mapping[str, Assignment]) -> Tensor:
        """S of each branch [H,1], over all ranks."""
        sums = torch.stack([found.target.sum() for found in positives.values()])
        return self.ranks.sum(sums).clamp(min=1)[:, None]

    def _parts(self, heads: Sequence[Head], batch: Batch) -> Tensor:
        """Loss parts [H,3] = box, cls, dfl of each branch with their gains, before they are divided
        by S."""
        sizes = [len(found) for _, _, found in heads]
        box = torch.cat([found.box for _, _, found in heads])  # [N]: rows of all branches
        target = torch.cat([found.target for _, _, found in heads])
        true_boxes, labels = batch.boxes[box], batch.labels[box].split(sizes)
        logits = [predictions.logits.float() for predictions, _, _ in heads]
        picked = [
            scores[found.image, found.point, label]
            for scores, label, (_, _, found) in zip(logits, labels, heads, strict=True)
        ]
        chosen = torch.cat([decoded[found.image, found.point] for _, decoded, found in heads])
        distance = self._distance_loss(heads, true_boxes, batch)
        scored = torch.cat(picked) * target
        if self.class_weights is not None:
            scored = scored * self.class_weights[batch.labels[box]]
        rows = [target * (1 - matched_ciou(chosen, true_boxes)), scored, target * distance]
        sums = torch.stack([part.sum(1) for part in torch.stack(rows).split(sizes, 1)])  # [H,3]
        whole = [
            self._softplus(scores, found, batch).sum()
            for scores, (_, _, found) in zip(logits, heads, strict=True)
        ]
        cls = torch.stack(whole) - sums[:, 1]
        gains = self.gains
        return torch.stack([gains.box * sums[:, 0], gains.cls * cls, gains.dfl * sums[:, 2]], 1)

    def _softplus(self, logits: Tensor, found: Assignment, batch: Batch) -> Tensor:
        """softplus of logits [B,A,C], times the weight of each class; 0 where it is not known that
        a class without a label is background (labeled.py)."""
        scores = F.softplus(logits)
        if self.class_weights is not None:
            scores = scores * self.class_weights
        if self.labeled is None:
            return scores
        assigned = torch.zeros_like(scores[..., 0])  # [B,A]
        place = (found.image, found.point)  # rows that are not positive may repeat a point
        assigned.index_put_(place, found.positive.to(assigned.dtype), accumulate=True)
        counts = self.labeled.of(batch)[:, None] | (assigned > 0)[..., None]  # [B,A,C]
        return scores * counts

    def _assign(
        self, outputs: Mapping[str, Predictions], boxes: Mapping[str, Tensor], batch: Batch
    ) -> dict[str, Assignment]:
        """The assignment of each branch.  All branches have the same points."""
        if self.frozen:
            return self.frozen
        first = next(iter(outputs.values()))
        pairs = candidate_pairs(first.points, first.strides, batch.boxes)
        truth = (batch.boxes, batch.labels, batch.batch_index)
        found: dict[str, Assignment] = {}
        for names in branch_groups(outputs, batch):
            assigners = [self.assigners[name] for name in names]
            logits = [outputs[name].logits for name in names]
            decoded = [boxes[name].detach() for name in names]
            assigned = assign(assigners, logits, decoded, pairs, *truth)
            found |= dict(zip(names, assigned, strict=True))
        if self.frozen is not None:
            self.frozen = found
        return found

    @staticmethod
    def _distance_loss(heads: Sequence[Head], true_boxes: Tensor, batch: Batch) -> Tensor:
        """[N] loss of the four sides of each row.  All branches have the same points and bins."""
        predictions = heads[0][0]
        rows = torch.cat([found.point for _, _, found in heads])
        point, stride = predictions.points[rows], predictions.strides[rows, None]
        target = (
            torch.cat([point - true_boxes[:, :2], true_boxes[:, 2:] - point], 1) / stride
        )  # [N,4]
        distances = torch.cat(
            [branch.distances[found.image, found.point] for branch, _, found in heads]
        ).float()  # [N,4R]
        if predictions.reg_max == 1:
            height, width = batch.images.shape[-2:]
            off = (distances - target).abs() * stride
            return (off[:, 0::2].sum(1) / width + off[:, 1::2].sum(1) / height) / 4
        return distribution_focal_loss(distances.view(-1, 4, predictions.reg_max), target).mean(1)


def branch_groups(outputs: Mapping[str, Predictions], batch: Batch) -> list[list[str]]:
    """The branches to compute in one pass: all on a GPU, to launch fewer kernels; one by one on a
    CPU, where that is not slower."""
    names = list(outputs)
    return [[name] for name in names] if batch.images.device.type == "cpu" else [names]


def distribution_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with the two bins around the target, weighted by distance.  logits: [P,4,R];
    target: [P,4] in bins, clamped to the range.  Returns [P,4]."""
    bins = logits.shape[-1]
    target = target.clamp(0, bins - 1 - 0.01)
    left = target.long()
    weight_right = target - left
    log_p = logits.log_softmax(-1)
    left_p = log_p.gather(-1, left[..., None])[..., 0]
    right_p = log_p.gather(-1, left[..., None] + 1)[..., 0]
    return -(left_p * (1 - weight_right) + right_p * weight_right)
