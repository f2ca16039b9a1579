"""YOLOX: Focus stem, CSP blocks, decoupled head with objectness; expects BGR in 0..255.

Two of its outputs are converted to those of ``Predictions``, exactly and differentiably:

- A score is class probability times objectness.  With class logit c and objectness logit o, the
  logit of the product s(c) s(o) is -log(e^-c + e^-o + e^-(c+o)): the values of ``logits``.
- A box is the offset t of its center from the cell's corner and its log size u, in strides.  Its
  sides are (e^u / 2) -+ (t - 1/2) away from the cell's center: the values of ``distances`` (R = 1).

Both are computed in float32.  Source: YOLOX (arXiv 2107.08430).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .blocks import Bottleneck, Conv, CrossStage, PyramidPool, depthwise
from .detector import Detector
from .head import Head, no_autocast, rows
from .predictions import ONE_TO_MANY
from .pyramid import Backbone, Neck

PRIOR = -math.log((1 - 0.01) / 0.01)
"""Bias of fresh class and objectness logits: probability 0.01."""
BOX_PRIOR = (0.5, 0.5, math.log(4), math.log(4))
"""Bias of fresh boxes: two strides to each side of the cell's center, as in the other families."""


@dataclass(frozen=True)
class Size:
    """One row of the table.

    base: width of the stem; stages double it.  links: bottlenecks in the short chains, three times
    as many in the long ones.  separable: 3x3 convolutions are depthwise and pointwise.
    """

    base: int
    links: int
    separable: bool = False


SIZES = {
    "nano": Size(16, 1, separable=True),
    "tiny": Size(24, 1),
    "s": Size(32, 1),
    "m": Size(48, 2),
    "l": Size(64, 3),
    "x": Size(80, 4),
}


def build(size: str, num_classes: int) -> Detector:
    """The detector of one row."""
    row = SIZES[size]
    b, n = row.base, row.links
    neck = Neck(
        lateral5=Conv(16 * b, 8 * b),
        mix_down4=row_csp(row, 16 * b, 8 * b, n, residual=False),
        lateral4=Conv(8 * b, 4 * b),
        mix_down3=row_csp(row, 8 * b, 4 * b, n, residual=False),
        down3=row_conv(row, 4 * b, 4 * b, 2),
        mix_up4=row_csp(row, 8 * b, 8 * b, n, residual=False),
        down4=row_conv(row, 8 * b, 8 * b, 2),
        mix_up5=row_csp(row, 16 * b, 16 * b, n, residual=False),
    )
    head = Head({ONE_TO_MANY: ObjectnessBranch(row, num_classes)})
    backbone = make_backbone(row)
    name, corner = f"yolox_{size}", "top-left"
    return Detector(
        name, num_classes, backbone, neck, head, bgr=True, scale=255.0, letterbox=corner
    )


def make_backbone(row: Size) -> Backbone:
    """Stem and four stages; the last one pools, and has no residuals."""
    b = row.base
    stages: dict[str, nn.Module] = {"stem": Focus(b)}
    for number, links in ((2, row.links), (3, 3 * row.links), (4, 3 * row.links), (5, row.links)):
        c_out = b * 2 ** (number - 1)
        stage = nn.Sequential()
        stage.add_module("down", row_conv(row, c_out // 2, c_out, 2))
        if number == 5:
            stage.add_module("pool", PyramidPool(c_out))
        stage.add_module("mix", row_csp(row, c_out, c_out, links, residual=number < 5))
        stages[f"stage{number}"] = stage
    return Backbone(stages)


class Focus(nn.Module):
    """Stack the four grids of every second pixel to 12 channels, then a 3x3 convolution."""

    def __init__(self, c_out: int) -> None:
        super().__init__()
        self.conv = Conv(12, c_out, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        even, odd = x[:, :, ::2], x[:, :, 1::2]  # rows
        grids = (even[..., ::2], odd[..., ::2], even[..., 1::2], odd[..., 1::2])
        return self.conv(torch.cat(grids, 1))


def row_conv(row: Size, c_in: int, c_out: int, stride: int = 1) -> nn.Module:
    """The 3x3 convolution of a row: plain, or depthwise and then pointwise."""
    if not row.separable:
        return Conv(c_in, c_out, 3, stride)
    return nn.Sequential(depthwise(c_in, stride=stride), Conv(c_in, c_out))


def row_csp(row: Size, c_in: int, c_out: int, n: int, *, residual: bool) -> CrossStage:
    """A CSP block of bottlenecks without reduction."""

    def link(c: int) -> Bottleneck:
        return Bottleneck(Conv(c, c), row_conv(row, c, c), residual=residual)

    return CrossStage(c_in, c_out, n, link)


class ObjectnessBranch(nn.Module):
    """Stems and towers on every level; objectness reads the box tower."""

    def __init__(self, row: Size, num_classes: int) -> None:
        super().__init__()
        width = 4 * row.base
        channels = (4 * row.base, 8 * row.base, 16 * row.base)
        self.stems = nn.ModuleList(Conv(c, width) for c in channels)
        self.boxes = nn.ModuleList(
            nn.Sequential(*tower(row), nn.Conv2d(width, 4, 1)) for _ in channels
        )
        self.classes = nn.ModuleList(
            nn.Sequential(*tower(row), nn.Conv2d(width, num_classes, 1)) for _ in channels
        )
        self.objectness = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in channels)
        for last in (*self.objectness, *(each[-1] for each in self.classes)):  # type: ignore[index]
            nn.init.constant_(last.bias, PRIOR)
        for each in self.boxes:
            each[-1].bias.data = torch.tensor(BOX_PRIOR)  # type: ignore[index]

    def forward(self, features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [B,A,C] and distances [B,A,4], float32, of all levels."""
        logits, boxes, objects = [], [], []
        levels = zip(features, self.stems, self.boxes, self.classes, self.objectness, strict=True)
        for x, stem, box, classes, objectness in levels:
            x = stem(x)
            logits.append(rows(classes(x)))
            first, second, last = box.children()
            x = second(first(x))
            boxes.append(rows(last(x)))
            objects.append(rows(objectness(x)))
        joined = joint_logits(torch.cat(logits, 1), torch.cat(objects, 1))
        return joined, distances_of(torch.cat(boxes, 1))


def tower(row: Size) -> tuple[nn.Module, nn.Module]:
    """Two 3x3 convolutions as wide as the finest level."""
    width = 4 * row.base
    return row_conv(row, width, width), row_conv(row, width, width)


def joint_logits(classes: torch.Tensor, objectness: torch.Tensor) -> torch.Tensor:
    """The logit of s(classes [B,A,C]) * s(objectness [B,A,1]): [B,A,C] float32."""
    with no_autocast(classes):
        c, o = -classes.float(), -objectness.float()
        return -torch.logaddexp(torch.logaddexp(c, o), c + o)


def distances_of(raw: torch.Tensor) -> torch.Tensor:
    """Raw (x, y, log w, log h) [B,A,4] -> left, top, right, bottom [B,A,4] float32, in strides."""
    with no_autocast(raw):
        offset, size = raw.float().chunk(2, -1)
        half, shift = size.exp() / 2, offset - 0.5
        return torch.cat((half - shift, half + shift), -1)
