"""YOLOv8: C2f blocks, one head with plain 3x3 class towers, distributions (R = 16)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from .blocks import Aggregate, Bottleneck, Conv, PyramidPool, bottleneck
from .detector import Detector
from .head import Head
from .predictions import ONE_TO_MANY
from .pyramid import Backbone, Neck
from .yolo26 import make_branch

BINS = 16


@dataclass(frozen=True)
class Size:
    """One row of the table.

    widths: output of the stem and of strides 4, 8, 16 and 32.  repeats: links in the short chains;
    the two long ones have twice as many.
    """

    widths: tuple[int, int, int, int, int]
    repeats: int


SIZES = {
    "n": Size((16, 32, 64, 128, 256), repeats=1),
    "s": Size((32, 64, 128, 256, 512), repeats=1),
    "m": Size((48, 96, 192, 384, 576), repeats=2),
    "l": Size((64, 128, 256, 512, 512), repeats=3),
    "x": Size((80, 160, 320, 640, 640), repeats=3),
}


def build(size: str, num_classes: int) -> Detector:
    """The detector of one row."""
    row = SIZES[size]
    c3, c4, c5 = levels = row.widths[2:]
    many = make_branch(levels, num_classes, class_tower, BINS)
    neck = Neck(
        mix_down4=c2f(c5 + c4, c4, row.repeats, residual=False),
        mix_down3=c2f(c4 + c3, c3, row.repeats, residual=False),
        down3=Conv(c3, c3, 3, 2),
        mix_up4=c2f(c3 + c4, c4, row.repeats, residual=False),
        down4=Conv(c4, c4, 3, 2),
        mix_up5=c2f(c4 + c5, c5, row.repeats, residual=False),
    )
    head = Head({ONE_TO_MANY: many})
    return Detector(f"yolov8{size}", num_classes, make_backbone(row), neck, head)


def make_backbone(row: Size) -> Backbone:
    """Stem, four stages of downsampling and mixing, pooling."""
    stages: dict[str, nn.Module] = {"stem": Conv(3, row.widths[0], 3, 2)}
    for number, longer in ((2, 1), (3, 2), (4, 2), (5, 1)):
        c_in, c_out = row.widths[number - 2 : number]
        stage = nn.Sequential()
        stage.add_module("down", Conv(c_in, c_out, 3, 2))
        stage.add_module("mix", c2f(c_out, c_out, row.repeats * longer, residual=True))
        stages[f"stage{number}"] = stage
    stages["pool"] = PyramidPool(row.widths[-1])
    return Backbone(stages)


def c2f(c_in: int, c_out: int, n: int, *, residual: bool) -> Aggregate:
    """An ``Aggregate`` of full-width bottlenecks."""

    def link(c: int) -> Bottleneck:
        return bottleneck(c, residual=residual)

    return Aggregate(c_in, c_out, c_out // 2, n, link)


def class_tower(c_in: int, width: int, num_classes: int) -> nn.Sequential:
    """Two 3x3 convolutions and a 1x1 to the logits."""
    return nn.Sequential(
        Conv(c_in, width, 3), Conv(width, width, 3), nn.Conv2d(width, num_classes, 1)
    )
