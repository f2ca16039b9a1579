"""Non-maximum suppression in plain tensor code: fixed shapes, no loop that depends on the data.

Greedy NMS keeps a box unless a better one that was kept overlaps it.  Written as a condition on
all boxes at once, kept(j) = no i < j with kept(i) and overlap(i, j), it is solved by iteration:
start with all kept and apply the condition to the previous result.  After n rounds every box is
correct that depends on a chain of less than n others (Cluster-NMS, arXiv 2005.03572, section 3.2).
Chains are short: ROUNDS is several times the longest seen.  Every runtime can do it, because it
consists of matrix products and comparisons.
"""

from __future__ import annotations

import torch

from ..evaluate.postprocess import rows_at

CANDIDATES = 1024
"""(anchor, class) pairs per image that enter NMS, those with the best scores."""
ROUNDS = 16


def nms_rows(rows: torch.Tensor, *, iou: float, max_det: int, agnostic: bool) -> torch.Tensor:
    """The best rows [B,max_det,6] after NMS; suppressed rows have score 0 and stand at the end.

    rows: [B,K,6] x1, y1, x2, y2, score, class, best first.  iou: overlap above which the box with
    the lower score is removed, among boxes of one class, or with ``agnostic`` of all classes.
    """
    boxes, scores, labels = rows[..., :4], rows[..., 4], rows[..., 5]
    rivals = overlaps(boxes) > iou  # [B,K,K]
    if not agnostic:
        rivals = rivals & (labels[:, :, None] == labels[:, None, :])
    # places are counted from the scores: a constant mask [K,K] would be folded into the file
    place = (scores >= 0).float().cumsum(1)  # [B,K]: 1, 2, 3 ...
    better = place[:, :, None] < place[:, None, :]
    beats = (rivals & better).float()  # [B,K,K]: i beats j, so i < j
    kept = torch.ones_like(scores)[:, None]  # [B,1,K]
    for _ in range(ROUNDS):
        kept = ((kept @ beats) < 0.5).float()
    scores = scores * kept[:, 0]
    best, order = scores.topk(min(max_det, rows.shape[1]), dim=1)  # [B,D]
    rows = rows_at(rows, order)
    rows = torch.cat((rows[..., :4], best[..., None], rows[..., 5:]), -1)
    return torch.nn.functional.pad(rows, (0, 0, 0, max_det - rows.shape[1]))


def overlaps(boxes: torch.Tensor) -> torch.Tensor:
    """Intersection over union of all pairs: boxes [B,K,4] -> [B,K,K]; 0 for boxes without area."""
    top = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    low = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    sides = (low - top).clamp(min=0)  # [B,K,K,2]
    shared = sides[..., 0] * sides[..., 1]  # [B,K,K]
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])  # [B,K]
    whole = area[:, :, None] + area[:, None, :] - shared
    return shared / whole.clamp(min=1e-9)
