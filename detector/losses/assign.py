"""Task-aligned assignment: which anchor points answer for which box.

TOOD (Feng et al. 2021, arXiv 2108.07755, section 3.3) ranks anchor points of a box by ``t = s^alpha
* u^beta`` with the score s of the box's class and the overlap u of the predicted box.  The steps:

1. candidates: points inside the box; a side shorter than the second stride counts as that long
(small-target rule); 2. metric: score, overlap and t, for candidate pairs only;
3. pick: the k best of each box;
4. settle: a point picked by several boxes goes to the one that it overlaps most;
5. trim: where only one (or few) may remain, the best of each box (the one-to-one head);
6. target: ``t / max t * max u`` of its box, the classification target of a positive point.

Scores and overlaps are computed for candidate pairs (a few thousand), never for all images x boxes
x points.  How many pairs there are is the one number that the host has to wait for: what is picked
is a table of k rows a box, in which those that are not positive have a target of 0.  All of it in
float32 and without gradients.

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
    """What was picked.  image, point, box: [N] int64 indices into B, A and M.  positive: [N] bool.
    target: [N] float32 in 0..1, 0 where it is not positive."""

    image: Tensor
    point: Tensor
    box: Tensor
    target: Tensor
    positive: Tensor

    def positives(self) -> Assignment:
        """The positive rows alone; the host waits for their number."""
        rows = (self.image, self.point, self.box, self.target, self.positive)
        return Assignment(*(row[self.positive] for row in rows))

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
        pairs: tuple[Tensor, Tensor],
        true_boxes: Tensor,
        true_labels: Tensor,
        batch_index: Tensor,
    ) -> Assignment:
        """logits [B,A,C] and decoded boxes [B,A,4] in pixels against true_boxes [M,4], true_labels
        [M], batch_index [M] -> Assignment.  pairs: as from ``candidate_pairs``."""
        box, point = pairs  # [P], [P]
        image = batch_index[box]
        score = logits[image, point, true_labels[box]].float().sigmoid()
        overlap = matched_ciou(boxes[image, point], true_boxes[box]).clamp(min=0)
        metric = score.pow(self.alpha) * overlap.pow(self.beta)

        picked, there = best_of_each(box, metric, self.topk, len(true_boxes))  # [M,K] each
        image, point, box, overlap, metric = (
            x[picked] for x in (image, point, box, overlap, metric)
        )
        there = settle_conflicts(image * boxes.shape[1] + point, overlap, there)
        if self.keep is not None:
            first = (~there).byte().argsort(dim=1, stable=True)[:, : self.keep]  # they are ranked
            image, point, box, overlap, metric, there = (
                x.gather(1, first) for x in (image, point, box, overlap, metric, there)
            )

        metric, overlap = metric * there, overlap * there
        target = metric / (most(metric) + EPS) * most(overlap)
        rows = (image, point, box, target, there)
        return Assignment(*(x.flatten() for x in rows))


def candidate_pairs(points: Tensor, strides: Tensor, true_boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs (box, point) with the point strictly inside the box: [P], [P], sorted by box, then
    point.

    Small-target rule: a side shorter than the second smallest stride is taken as that long, around
    its centre.
    """
    least = strides.amin()
    second = torch.where(strides > least, strides, torch.inf).amin()
    shortest = torch.where(second.isinf(), least, second)
    centre = (true_boxes[:, :2] + true_boxes[:, 2:]) / 2
    half = (true_boxes[:, 2:] - true_boxes[:, :2]).clamp(min=shortest) / 2
    low, high = centre - half, centre + half  # [M,2]
    x, y = points[:, 0], points[:, 1]
    inside = (x > low[:, :1]) & (x < high[:, :1])  # [M,A]
    inside &= (y > low[:, 1:]) & (y < high[:, 1:])
    box, point = inside.nonzero(as_tuple=True)
    return box, point


def best_of_each(group: Tensor, value: Tensor, k: int, num_groups: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each group ([P] group ids, [P] values >= 0), falling; ties go to the
    earlier pair.  Returns [num_groups,k] indices into P, and which of them are there: the rest of a
    smaller group points anywhere."""
    k = min(k, len(group))
    order = by_group(group, value)
    counts = group.new_zeros(num_groups).scatter_add_(0, group, torch.ones_like(group))
    rank = torch.arange(k, device=group.device)
    place = (counts.cumsum(0) - counts)[:, None] + rank  # [num_groups,k]
    return order[place.clamp(max=max(len(group) - 1, 0))], rank < counts[:, None]


def settle_conflicts(slot: Tensor, overlap: Tensor, there: Tensor) -> Tensor:
    """Which entries remain when every slot (an anchor point of an image) keeps its entry of largest
    overlap: [M,K] slots, overlaps and whether an entry is there -> [M,K] bool."""
    nowhere = torch.iinfo(torch.int32).max
    where = torch.where(there, slot, nowhere).flatten()
    order = by_group(where, overlap.flatten())
    ordered = where[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    remains = torch.empty_like(first).scatter_(0, order, first)
    return remains.view_as(there) & there


def most(value: Tensor) -> Tensor:
    """Largest of each row, which may be empty: [M,K] -> [M,1]."""
    return value.amax(1, keepdim=True) if value.shape[1] else value.new_zeros(len(value), 1)


def by_group(group: Tensor, value: Tensor) -> Tensor:
    """Indices that sort by group, within a group by falling value (float32, >= 0), equal ones as
    they come: [P], [P] -> [P].

    The bits of a float that is not negative rise with it, so both fit into one integer, and one
    sort of integers does for two.
    """
    bits = value.contiguous().view(torch.int32).long() & FLOAT_BITS
    return ((group << 32) | (FLOAT_BITS - bits)).argsort(stable=True)
