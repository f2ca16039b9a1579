"""Overlap of boxes on tensors.  Boxes are xyxy pixels; everything is computed in float32.

CIoU: Zheng et al. 2020, "Distance-IoU Loss" (arXiv 1911.08287), section 3.2:
``CIoU = IoU - rho^2 / c^2 - alpha * v`` with the center distance rho, the diagonal c of the
enclosing box, the aspect term ``v = 4/pi^2 (atan(w_a/h_a) - atan(w_b/h_b))^2`` and ``alpha = v / (1
- IoU + v)``, which is not differentiated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPS = 1e-7


def matched_ciou(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU of row i of ``a`` with row i of ``b``: [N,4], [N,4] -> [N], at most 1, may be
    negative."""
    a, b = a.float(), b.float()
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    intersection = overlap.prod(1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(1)
    sides_b = b[:, 2:] - b[:, :2]
    area_b = sides_b.clamp(min=0).prod(1)
    iou = intersection / (area_a + area_b - intersection + EPS)
    enclosing = torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])  # [N,2]
    diagonal = enclosing.square().sum(1) + EPS
    center_distance = ((a[:, :2] + a[:, 2:] - b[:, :2] - b[:, 2:]) / 2).square().sum(1)
    angle_a = torch.atan((a[:, 2] - a[:, 0]) / (a[:, 3] - a[:, 1] + EPS))
    angle_b = torch.atan(sides_b[:, 0] / (sides_b[:, 1] + EPS))
    v = (4 / math.pi**2) * (angle_a - angle_b).square()
    with torch.no_grad():
        alpha = v / (1 - iou + v + EPS)
    return iou - center_distance / diagonal - alpha * v
