"""Task-aligned assignment: which anchor points predict which box.

TOOD (Feng et al. 2021, arXiv 2108.07755, section 3.3) ranks anchor points of a box by ``t = s^alpha
* u^beta`` with the score s of the box's class and the overlap u of the predicted box.  The steps:

1. candidates: points inside the box; a side shorter than the second stride counts as that long
(small-target rule);
2. metric: score, overlap and t, for candidate pairs only;
3. pick: the k best of each box;
4. resolve: a point picked by several boxes goes to the one that it overlaps most;
5. trim: if the head allows only one point (or few) per box, keep the best (one-to-one head);
6. target: ``t / max t * max u`` of its box, the classification target of a positive point.

Scores and overlaps are computed for candidate pairs (a few thousand), never for all images x boxes
x points.  The host waits only for the number of pairs: the result has k rows per box, and rows that
are not positive have a target of 0.  Everything is float32 and without gradients.

Letters: B images, A anchor points, M boxes in the batch, C classes, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .iou import matched_ciou

EPS = 1e-9
FLOAT_BITS = 0x7FFFFFFF
"""All bits of a float32 except the sign."""


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
        """Only the positive rows; the host waits for their number."""
        rows = (self.image, self.point, self.box, self.target, self.positive)
        return Assignment(*(row[self.positive] for row in rows))

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Assigner:
    """Task-aligned assigner of one head.  topk: points picked per box.  keep: how many of
    them remain after conflicts are resolved (None: all)."""

    topk: int = 10
    keep: int | None = None
    alpha: float = 0.5
    beta: float = 6.0


@torch.no_grad()
def assign(
    assigners: Sequence[Assigner],
    logits: Sequence[Tensor],
    boxes: Sequence[Tensor],
    pairs: tuple[Tensor, Tensor],
    true_boxes: Tensor,
    true_labels: Tensor,
    batch_index: Tensor,
) -> list[Assignment]:
    """The Assignment of every head, in one pass: on a GPU an operation on two heads takes as long
    as on one.

    logits: [B,A,C] per head.  boxes: [B,A,4] decoded, in pixels, per head.  pairs: as from
    ``candidate_pairs``.  Truth: true_boxes [M,4], true_labels [M], batch_index [M].  The heads must
    agree on alpha and beta.
    """
    alpha, beta = assigners[0].alpha, assigners[0].beta
    box, point = pairs  # [P], [P]
    image, count = batch_index[box], len(true_boxes)
    label = true_labels[box]
    score = torch.cat([head[image, point, label] for head in logits]).float().sigmoid()  # [H*P]
    found = torch.cat([head[image, point] for head in boxes])
    overlap = matched_ciou(found, true_boxes[box].repeat(len(boxes), 1)).clamp(min=0)
    metric = score.pow(alpha) * overlap.pow(beta)

    group = torch.cat([box + head * count if head else box for head in range(len(boxes))])
    most_points = max(assigner.topk for assigner in assigners)
    picked, valid = top_k_per_group(group, metric, most_points, len(boxes) * count)  # [H*M,K]
    quality = torch.stack((metric, overlap))[:, picked]  # [2,H*M,K]
    where = torch.stack((image, point, box))[:, picked % max(len(box), 1)]  # [3,H*M,K]
    slot = where[0] * boxes[0].shape[1] + where[1]
    own = [slice(head * count, (head + 1) * count) for head in range(len(boxes))]  # rows of a head
    for head, assigner in enumerate(assigners):
        if assigner.topk < most_points:
            valid[own[head], assigner.topk :] = False
        if head:
            slot[own[head]].add_(head * boxes[0][..., 0].numel())
    valid = resolve_conflicts(slot, quality[1], valid)
    for rows, assigner in zip(own, assigners, strict=True):
        if assigner.keep is not None:  # the best: entries are ranked
            valid[rows].logical_and_(valid[rows].cumsum(1) <= assigner.keep)
    quality *= valid
    largest = quality.amax if quality.shape[-1] else quality.sum  # without boxes rows are empty
    metric, overlap = largest(-1, keepdim=True)
    target = quality[0] / (metric + EPS) * overlap
    return [
        _of_head(where[:, rows], target[rows], valid[rows], assigner)
        for rows, assigner in zip(own, assigners, strict=True)
    ]


def _of_head(where: Tensor, target: Tensor, valid: Tensor, assigner: Assigner) -> Assignment:
    """The Assignment of one head, with only as many columns as can be positive.  where: [3,M,K];
    target, valid: [M,K]."""
    if assigner.keep is None:
        where, target, valid = (x[..., : assigner.topk] for x in (where, target, valid))
    else:
        first = (~valid).byte().argsort(dim=1, stable=True)[:, : assigner.keep]
        where = where.gather(2, first.expand(3, *first.shape))
        target, valid = target.gather(1, first), valid.gather(1, first)
    image, point, box = where.flatten(1)
    return Assignment(image, point, box, target.flatten(), valid.flatten())


def candidate_pairs(points: Tensor, strides: Tensor, true_boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs (box, point) with the point strictly inside the box: [P], [P], sorted by box, then
    point.

    Small-target rule: a side shorter than the second smallest stride is extended to that length
    around its center.
    """
    second = strides.masked_fill(strides <= strides.amin(), torch.inf).amin()
    shortest = torch.minimum(second, strides.amax())  # if there is only one stride, that one
    center = (true_boxes[:, :2] + true_boxes[:, 2:]) / 2
    half = (true_boxes[:, 2:] - true_boxes[:, :2]).clamp(min=shortest) / 2
    low, high = (center - half).T[..., None], (center + half).T[..., None]  # [2,M,1]
    place = points.T[:, None]  # [2,1,A]
    inside = (place > low) & (place < high)
    box, point = (inside[0] & inside[1]).nonzero(as_tuple=True)
    return box, point


def top_k_per_group(group: Tensor, value: Tensor, k: int, num_groups: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each group, in descending order; the earlier pair wins a tie.

    group: [P] ascending ids.  value: [P], >= 0.  Returns [num_groups,k] indices into P, and which
    of them are valid: the row of a group with fewer than k values ends in arbitrary indices.
    """
    k = min(k, len(group))
    order = sort_by_group(group, value)
    ids = torch.arange(num_groups, device=group.device)
    start = torch.searchsorted(group, ids)[:, None]
    end = torch.searchsorted(group, ids, right=True)[:, None]
    place = start + torch.arange(k, device=group.device)  # [num_groups,k]
    return order[place.clamp(max=max(len(group) - 1, 0))], place < end


def resolve_conflicts(slot: Tensor, overlap: Tensor, valid: Tensor) -> Tensor:
    """Keep, per slot (an anchor point of an image), only the entry with the largest overlap: [M,K]
    slots, overlaps and whether an entry is valid -> [M,K] bool."""
    nowhere = torch.iinfo(torch.int32).max
    where = torch.where(valid, slot, nowhere).flatten()
    order = sort_by_group(where, overlap.flatten())
    ordered = where[order]
    first = F.pad(ordered[1:] != ordered[:-1], (min(len(ordered), 1), 0), value=True)
    remains = torch.empty_like(first).scatter_(0, order, first)
    return remains.view_as(valid) & valid


def sort_by_group(group: Tensor, value: Tensor) -> Tensor:
    """Indices that sort by group, then by descending value (float32, >= 0): [P], [P] -> [P].

    The sort is stable.  The bits of non-negative floats, read as integers, have the same order.
    So group and value fit into one integer, and one sort replaces two.
    """
    bits = value.contiguous().view(torch.int32) & FLOAT_BITS
    return ((group << 32) - bits).argsort(stable=True)
