"""YOLOv9 t, s, m, c: ELAN blocks of re-parameterized convolutions, and an auxiliary branch.

The auxiliary branch has its own features (a second top-down path in t and s, a second backbone in m
and c) and is used only in training: ``fuse`` with ``branches`` drops it.  Each side of a box
has its own quarter of the box tower (groups of 4) and a distribution over 0..15 strides (R = 16).
Source: YOLOv9 (arXiv 2402.13616).  Not supported: v9-e.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from .blocks import Bottleneck, Conv, CrossStage, Fusable, PyramidPool, join
from .detector import Detector
from .head import STRIDES, Branch, Head
from .predictions import AUXILIARY, ONE_TO_MANY
from .pyramid import Backbone, Features, Neck, upsample_join
from .yolo26 import default_class_width

BINS = 16

Down = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class Size:
    """One row of the table.

    widths: output of the stem, the convolution to stride 4, and of stages 2 to 5.  inner: first
    width inside stages 2 to 5.  out3: width of the finest level of the neck.  down3, down4: widths
    of the neck's downsampling.  links: bottlenecks in a chain.  plain: ELAN without chains at
    stride 4.  pooled: downsampling by two paths.  second_backbone: what the auxiliary branch reads.
    """

    widths: tuple[int, int, int, int, int, int]
    inner: tuple[int, int, int, int]
    out3: int
    down3: int
    down4: int
    links: int
    plain: bool = False
    pooled: bool = False
    second_backbone: bool = False

    @property
    def downs(self) -> tuple[int, int, int, int]:
        """Widths after the downsampling of stages 2 to 5: pooling cannot change the width."""
        c2, c3, c4 = self.widths[2:5] if self.pooled else self.widths[3:]
        return self.widths[1], c2, c3, c4


SIZES = {
    "t": Size((16, 32, 32, 64, 96, 128), (32, 64, 96, 128), 64, 48, 64, links=3, plain=True),
    "s": Size((32, 64, 64, 128, 192, 256), (64, 128, 192, 256), 128, 96, 128, links=3, plain=True),
    "m": Size(
        *((32, 64, 128, 240, 360, 480), (128, 240, 360, 480), 240, 184, 240),
        links=1,
        second_backbone=True,
    ),
    "c": Size(
        *((64, 128, 256, 512, 512, 512), (128, 256, 512, 512), 256, 256, 512),
        links=1,
        pooled=True,
        second_backbone=True,
    ),
}


def build(size: str, num_classes: int) -> Detector:
    """The detector of one row."""
    row = SIZES[size]
    c3, c4, c5 = row.widths[3:]
    p3, p4, p5 = row.inner[1:]
    down: Down = TwoPathDown if row.pooled else AverageDown
    neck = Neck(
        lateral5=PyramidPool(c5),
        mix_down4=Elan(c5 + c4, c4, p4, row.links),
        mix_down3=Elan(c4 + c3, row.out3, p3, row.links),
        down3=down(row.out3, row.down3),
        mix_up4=Elan(row.down3 + c4, c4, p4, row.links),
        down4=down(c4, row.down4),
        mix_up5=Elan(row.down4 + c5, c5, p5, row.links),
    )
    classes = default_class_width(row.out3, num_classes)
    head = Head(
        {
            ONE_TO_MANY: make_branch((row.out3, c4, c5), classes, num_classes),
            AUXILIARY: make_branch((c3, c4, c5), max(c3, classes), num_classes),
        }
    )
    auxiliary = SecondBackbone(row) if row.second_backbone else SecondTopDown(row)
    backbone = Backbone(make_stages(row))
    return Detector(f"yolov9{size}", num_classes, backbone, neck, head, auxiliary=auxiliary)


def make_stages(row: Size) -> dict[str, nn.Module]:
    """Stem and four stages of downsampling and mixing."""
    c_in, _, *widths = row.widths
    down: Down = TwoPathDown if row.pooled else AverageDown
    stages: dict[str, nn.Module] = {"stem": Conv(3, c_in, 3, 2)}
    for number, (c_out, inner) in enumerate(zip(widths, row.inner, strict=True), 2):
        links = 0 if row.plain and number == 2 else row.links
        c_down = row.downs[number - 2]
        stage = nn.Sequential()
        stage.add_module("down", Conv(c_in, c_down, 3, 2) if number == 2 else down(c_in, c_down))
        stage.add_module("mix", Elan(c_down, c_out, inner, links))
        stages[f"stage{number}"] = stage
        c_in = c_out
    return stages


def make_branch(channels: tuple[int, int, int], class_width: int, num_classes: int) -> Branch:
    """Box towers with a quarter of the channels per side, class towers of two 3x3 convolutions."""
    width = max(-(-(channels[0] // 4) // 4) * 4, 4 * BINS)

    def boxes(c: int) -> nn.Sequential:
        last = nn.Conv2d(width, 4 * BINS, 1, groups=4)
        return nn.Sequential(Conv(c, width, 3), Conv(width, width, 3, groups=4), last)

    def classes(c: int) -> nn.Sequential:
        last = nn.Conv2d(class_width, num_classes, 1)
        return nn.Sequential(Conv(c, class_width, 3), Conv(class_width, class_width, 3), last)

    branch = Branch(channels, boxes, classes)
    branch.set_biases(STRIDES, num_classes, box_bias=1.0)
    return branch


class RepConv(Fusable):
    """A 3x3 and a 1x1 convolution, each with its norm, summed before one activation."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.wide = Conv(c, c, 3, act=nn.Identity())
        self.narrow = Conv(c, c, 1, act=nn.Identity())
        self.act = nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.narrow, nn.Identity):
            return self.act(self.wide(x))
        return self.act(self.wide(x) + self.narrow(x))

    @torch.no_grad()
    def fuse(self) -> None:
        """Add the folded 1x1 kernel to the center of the folded 3x3 kernel."""
        if isinstance(self.narrow, nn.Identity):
            return
        self.wide.fuse()
        self.narrow.fuse()
        wide, narrow = self.wide.conv, self.narrow.conv
        assert wide.bias is not None and narrow.bias is not None
        wide.weight += F.pad(narrow.weight, (1, 1, 1, 1))
        wide.bias += narrow.bias
        self.narrow = nn.Identity()  # type: ignore[assignment]


def rep_bottleneck(c: int) -> Bottleneck:
    """A chain's link: re-parameterized, then plain 3x3 convolution."""
    return Bottleneck(RepConv(c), Conv(c, c, 3))


class Elan(nn.Module):
    """Two halves, two steps on the second one, all four merged.

    c_inner: width of both halves together.  links: bottlenecks in each step; 0 makes a step a plain
    3x3 convolution.
    """

    def __init__(self, c_in: int, c_out: int, c_inner: int, links: int) -> None:
        super().__init__()
        half = c_inner // 2
        self.enter = Conv(c_in, c_inner)
        self.step1 = self._step(half, links)
        self.step2 = self._step(half, links)
        self.merge = Conv(4 * half, c_out)

    @staticmethod
    def _step(c: int, links: int) -> nn.Module:
        if not links:
            return Conv(c, c, 3)
        return nn.Sequential(CrossStage(c, c, links, rep_bottleneck), Conv(c, c, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.enter(x).chunk(2, 1)
        third = self.step1(second)
        return self.merge(join((first, second, third, self.step2(third))))


class AverageDown(nn.Module):
    """Half the resolution: 2x2 average, then a 3x3 convolution of stride 2."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = Conv(c_in, c_out, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.avg_pool2d(x, 2, 1))


class TwoPathDown(nn.Module):
    """Half the resolution: 2x2 average, then one half is convolved, the other one max-pooled."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = Conv(c_in // 2, c_out // 2, 3, 2)
        self.pool = Conv(c_in // 2, c_out // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        convolved, pooled = F.avg_pool2d(x, 2, 1).chunk(2, 1)
        return join((self.conv(convolved), self.pool(F.max_pool2d(pooled, 3, 2, 1))))


class SecondTopDown(nn.Module):
    """Auxiliary features of t and s: pooling and a top-down path of their own."""

    def __init__(self, row: Size) -> None:
        super().__init__()
        c3, c4, c5 = row.widths[3:]
        self.pool5 = PyramidPool(c5)
        self.mix4 = Elan(c5 + c4, c4, row.inner[2], row.links)
        self.mix3 = Elan(c4 + c3, c3, row.inner[1], row.links)

    def forward(self, inputs: torch.Tensor, levels: Features) -> Features:
        out5 = self.pool5(levels[2])
        out4 = self.mix4(upsample_join(out5, levels[1]))
        return self.mix3(upsample_join(out4, levels[0])), out4, out5


class SecondBackbone(nn.Module):
    """Auxiliary features of m and c: a second backbone, fed with projections of the first one.

    ``link3`` to ``link5`` project the three levels of the first backbone; the projections are
    enlarged and added where the second one has just halved its resolution.
    """

    def __init__(self, row: Size) -> None:
        super().__init__()
        c3, c4, c5 = row.widths[3:]
        self.splits = row.downs[1:]
        self.link3 = nn.Conv2d(c3, self.splits[0], 1)
        self.link4 = nn.Conv2d(c4, sum(self.splits[:2]), 1)
        self.link5 = nn.Conv2d(c5, sum(self.splits), 1)
        for name, stage in make_stages(row).items():
            self.add_module(name, stage)

    def forward(self, inputs: torch.Tensor, levels: Features) -> Features:
        projected = [
            link(level).split(self.splits[: i + 1], 1)
            for i, (link, level) in enumerate(zip(self._links(), levels, strict=True))
        ]
        x = self.get_submodule("stage2")(self.get_submodule("stem")(inputs))
        outputs = []
        for i in range(3):
            stage = self.get_submodule(f"stage{i + 3}")
            x = stage.get_submodule("down")(x)
            for parts in projected[i:]:
                x = x + F.interpolate(parts[i], size=x.shape[2:], mode="nearest")
            x = stage.get_submodule("mix")(x)
            outputs.append(x)
        return outputs[0], outputs[1], outputs[2]

    def _links(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        return self.link3, self.link4, self.link5
