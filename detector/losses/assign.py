"""Task-aligned assignment: which anchor points answer for which box.

TOOD (Feng et al. 2021, arXiv 2108.07755, section 3.3) ranks anchor points of a box by ``t = s^alpha
* u^beta`` with the score s of the box's class and the overlap u of the predicted box.  The steps:

1. candidates: points inside the box; a side shorter than the second stride counts as that long
(small-target rule); 2. metric: score, overlap and t, for candidate pairs only;
3. pick: the k best of each box;
4. settle: a point picked by several boxes goes to the one that it overlaps most;
5. trim: where only one (or few) may remain, the best of each box (the one-to-one head);
6. target: ``t / max t * max u`` of its box, the classification target of a positive point.

It works on a list of candidate pairs (a few thousand), never on a dense images x boxes x points
block, and it returns a list of positives.  All of it in float32 and without gradients.

Letters: B images, A anchor points, M boxes in the batch, C classes, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .iou import matched_ciou

EPS = 1e-9
FLOAT_BITS = 0x7FFFFFFF
"""Of a float32, all but its sign."""


@dataclass(frozen=True)
class Assignment:
    """The positives.  image, point, box: [P] int64 indices into B, A and M.  target: [P] float32 in
    0..1."""

    image: Tensor
    point: Tensor
    box: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Assigner:
    """Task-aligned assigner.  topk points a box are picked; ``keep`` of them remain after conflicts
    are settled."""

    topk: int = 10
    keep: int | None = None
    alpha: float = 0.5
    beta: float = 6.0

    @torch.no_grad()
    def __call__(
        self,
        logits: Tensor,
        boxes: Tensor,
        points: Tensor,
        strides: Tensor,
        true_boxes: Tensor,
        true_labels: Tensor,
        batch_index: Tensor,
    ) -> Assignment:
        """logits [B,A,C], decoded boxes [B,A,4] and points [A,2] in pixels, strides [A] against
        true_boxes [M,4], true_labels [M], batch_index [M] -> Assignment."""
        box, point = candidate_pairs(points, strides, true_boxes)  # [P], [P]
        image = batch_index[box]
        score = logits[image, point, true_labels[box]].float().sigmoid()
        overlap = matched_ciou(boxes[image, point], true_boxes[box]).clamp(min=0)
        metric = score.pow(self.alpha) * overlap.pow(self.beta)

        picked = best_of_each(box, metric, self.topk, len(true_boxes))
        image, point, box, overlap, metric = (
            x[picked] for x in (image, point, box, overlap, metric)
        )
        settled = settle_conflicts(image * len(points) + point, overlap)
        image, point, box, overlap, metric = (
            x[settled] for x in (image, point, box, overlap, metric)
        )
        if self.keep is not None:
            kept = best_of_each(box, metric, self.keep, len(true_boxes))
            image, point, box, overlap, metric = (
                x[kept] for x in (image, point, box, overlap, metric)
            )

        best_metric = maximum_of_each(box, metric, len(true_boxes))[box]
        best_overlap = maximum_of_each(box, overlap, len(true_boxes))[box]
        return Assignment(image, point, box, metric / (best_metric + EPS) * best_overlap)


def candidate_pairs(points: Tensor, strides: Tensor, true_boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs (box, point) with the point strictly inside the box: [P], [P], sorted by box, then
    point.

    Small-target rule: a side shorter than the second smallest stride is taken as that long, around
    its centre.
    """
    levels = strides.unique()
    shortest = levels[min(1, len(levels) - 1)]
    centre = (true_boxes[:, :2] + true_boxes[:, 2:]) / 2
    half = (true_boxes[:, 2:] - true_boxes[:, :2]).clamp(min=shortest) / 2
    low, high = centre - half, centre + half  # [M,2]
    x, y = points[:, 0], points[:, 1]
    inside = (x > low[:, :1]) & (x < high[:, :1])  # [M,A]
    inside &= (y > low[:, 1:]) & (y < high[:, 1:])
    box, point = inside.nonzero(as_tuple=True)
    return box, point


def best_of_each(group: Tensor, value: Tensor, k: int, num_groups: int) -> Tensor:
    """Indices of the k largest values of each group ([P] group ids, [P] values >= 0); ties go to
    the earlier pair."""
    order = by_group(group, value)
    counts = group.bincount(minlength=num_groups)
    start = counts.cumsum(0) - counts
    rank = torch.arange(len(group), device=group.device) - start[group[order]]
    return order[rank < k].sort().values


def settle_conflicts(slot: Tensor, overlap: Tensor) -> Tensor:
    """Indices that remain when every slot (an anchor point of an image) keeps the pair of largest
    overlap."""
    order = by_group(slot, overlap)
    sorted_slot = slot[order]
    first = torch.ones_like(sorted_slot, dtype=torch.bool)
    first[1:] = sorted_slot[1:] != sorted_slot[:-1]
    return order[first].sort().values


def by_group(group: Tensor, value: Tensor) -> Tensor:
    """Indices that sort by group, within a group by falling value (float32, >= 0), equal ones as
    they come: [P], [P] -> [P].

    The bits of a float that is not negative rise with it, so both fit into one integer, and one
    sort of integers does for two.
    """
    bits = value.contiguous().view(torch.int32).long() & FLOAT_BITS
    return ((group << 32) | (FLOAT_BITS - bits)).argsort(stable=True)


def maximum_of_each(group: Tensor, value: Tensor, num_groups: int) -> Tensor:
    """Largest value of each group, 0 where a group is empty: [P], [P] -> [num_groups]."""
    return value.new_zeros(num_groups).scatter_reduce_(0, group, value, "amax")
