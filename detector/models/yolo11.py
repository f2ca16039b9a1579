"""YOLO11: YOLO26's graph and table with one head, distributions over distances, no neck attention.

Each side of a box is a distribution over 0..15 strides (R = 16), which needs wider box towers.
"""

from __future__ import annotations

from .blocks import Conv, PyramidPool
from .detector import Detector
from .head import Head
from .predictions import ONE_TO_MANY
from .pyramid import Neck
from .yolo26 import PLAIN_SIZES as SIZES
from .yolo26 import c3k, c3k2, class_tower, make_backbone, make_branch, narrow

BINS = 16

__all__ = ["SIZES", "build"]


def build(size: str, num_classes: int) -> Detector:
    """The detector of one row."""
    row = SIZES[size]
    c3, c4, c5 = levels = row.widths[2:]
    inner = c3k if row.deep else narrow
    many = make_branch(levels, num_classes, class_tower, BINS)
    neck = Neck(
        mix_down4=c3k2(c5 + c4, c4, row.repeats, inner),
        mix_down3=c3k2(c4 + c4, c3, row.repeats, inner),
        down3=Conv(c3, c3, 3, 2),
        mix_up4=c3k2(c3 + c4, c4, row.repeats, inner),
        down4=Conv(c4, c4, 3, 2),
        mix_up5=c3k2(c4 + c5, c5, row.repeats, c3k),
    )
    backbone = make_backbone(row, PyramidPool(c5))
    return Detector(f"yolo11{size}", num_classes, backbone, neck, Head({ONE_TO_MANY: many}))
