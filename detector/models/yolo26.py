"""YOLO26: C3k2 blocks, attention on the coarsest level, two heads without distributions.

The one-to-many branch gives the richer training signal, the one-to-one branch needs no NMS; both
start from the same weights.  Distances are plain numbers in strides (R = 1).  The sizes ``-p2`` are
for small objects: a further level of stride 4, with half the width of the level of stride 8.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from .blocks import (
    Aggregate,
    AttentionBlock,
    Bottleneck,
    Conv,
    CrossStage,
    Inner,
    PartialAttention,
    PyramidPool,
    bottleneck,
    depthwise,
)
from .detector import Detector
from .head import FINE_STRIDES, STRIDES, Branch, Head
from .predictions import ONE_TO_MANY, ONE_TO_ONE
from .pyramid import Backbone, FineNeck, Neck


@dataclass(frozen=True)
class Size:
    """One row of the table.

    widths: output of the stem, of the convolution to stride 4, and of the three levels.
    repeats: links in each chain.  deep: C3k links where the small sizes have plain bottlenecks.
    fine: a level of stride 4.
    """

    widths: tuple[int, int, int, int, int]
    repeats: int
    deep: bool
    fine: bool = False


PLAIN_SIZES = {
    "n": Size((16, 32, 64, 128, 256), repeats=1, deep=False),
    "s": Size((32, 64, 128, 256, 512), repeats=1, deep=False),
    "m": Size((64, 128, 256, 512, 512), repeats=1, deep=True),
    "l": Size((64, 128, 256, 512, 512), repeats=2, deep=True),
    "x": Size((96, 192, 384, 768, 768), repeats=2, deep=True),
}
SIZES = PLAIN_SIZES | {f"{size}-p2": replace(PLAIN_SIZES[size], fine=True) for size in "nsm"}


def build(size: str, num_classes: int) -> Detector:
    """The detector of one row."""
    row = SIZES[size]
    c3, c4, c5 = levels = row.widths[2:]
    c2 = c3 // 2
    many = make_branch((c2, *levels) if row.fine else levels, num_classes, class_tower)
    strides = FINE_STRIDES if row.fine else STRIDES
    head = Head({ONE_TO_MANY: many, ONE_TO_ONE: copy.deepcopy(many)}, strides)
    pool = PyramidPool(c5, act=nn.Identity(), residual=True)
    plain: dict[str, nn.Module] = {
        "mix_down4": c3k2(c5 + c4, c4, row.repeats, c3k),
        "mix_down3": c3k2(c4 + c4, c3, row.repeats, c3k),
        "down3": Conv(c3, c3, 3, 2),
        "mix_up4": c3k2(c3 + c4, c4, row.repeats, c3k),
        "down4": Conv(c4, c4, 3, 2),
        "mix_up5": c3k2(c4 + c5, c5, 1, attention),
    }
    neck = Neck(**plain)
    if row.fine:
        neck = FineNeck(
            **plain,
            mix_down2=c3k2(c3 + c3, c2, row.repeats, c3k),
            down2=Conv(c2, c2, 3, 2),
            mix_up3=c3k2(c2 + c3, c3, row.repeats, c3k),
        )
    return Detector(f"yolo26{size}", num_classes, make_backbone(row, pool), neck, head)


def make_backbone(row: Size, pool: PyramidPool) -> Backbone:
    """Stem, four stages of downsampling and mixing, pooling, attention."""
    stem, c2, c3, c4, c5 = row.widths
    early = c3k if row.deep else narrow

    def stage(c_in: int, c_down: int, c_out: int, inner: Inner, share: float) -> nn.Sequential:
        stage = nn.Sequential()
        stage.add_module("down", Conv(c_in, c_down, 3, 2))
        stage.add_module("mix", c3k2(c_down, c_out, row.repeats, inner, share))
        return stage

    return Backbone(
        {
            "stem": Conv(3, stem, 3, 2),
            "stage2": stage(stem, c2, c3, early, 0.25),
            "stage3": stage(c3, c3, c4, early, 0.25),
            "stage4": stage(c4, c4, c4, c3k, 0.5),
            "stage5": stage(c4, c5, c5, c3k, 0.5),
            "pool": pool,
            "attention": PartialAttention(c5, row.repeats),
        },
        ("stage2", "stage3", "stage4") if row.fine else ("stage3", "stage4"),
    )


def c3k2(c_in: int, c_out: int, n: int, inner: Inner, share: float = 0.5) -> Aggregate:
    """An ``Aggregate`` whose halves are ``share`` of the output wide."""
    return Aggregate(c_in, c_out, int(c_out * share), n, inner)


def narrow(c: int) -> Bottleneck:
    """A chain's link: 3x3 bottleneck through half the width."""
    return bottleneck(c, squeeze=2)


def c3k(c: int) -> CrossStage:
    """A chain's link: a small CSP block with two bottlenecks."""
    return CrossStage(c, c, 2, bottleneck)


def attention(c: int) -> nn.Sequential:
    """A chain's link: a bottleneck, then self-attention."""
    return nn.Sequential(narrow(c), AttentionBlock(c))


def make_branch(
    levels: tuple[int, ...],
    num_classes: int,
    class_tower: Callable[[int, int, int], nn.Sequential],
    bins: int = 1,
) -> Branch:
    """Box and class towers on features of these widths, with initial biases.  Towers are as wide as
    the level of stride 8 wants them; the two coarser ones follow it."""
    width = max(16, 4 * bins, levels[-3] // 4)
    class_width = default_class_width(levels[-3], num_classes)
    branch = Branch(
        levels,
        lambda c: box_tower(c, width, bins),
        lambda c: class_tower(c, class_width, num_classes),
    )
    branch.set_biases(FINE_STRIDES[-len(levels) :], num_classes, box_bias=2.0)
    return branch


def default_class_width(c3: int, num_classes: int) -> int:
    """Width of the class towers: that of stride 8, or one channel per class up to 100."""
    return max(c3, min(num_classes, 100))


def box_tower(c_in: int, width: int, bins: int = 1) -> nn.Sequential:
    """Two 3x3 convolutions and a 1x1 to 4 distances of ``bins`` numbers."""
    return nn.Sequential(Conv(c_in, width, 3), Conv(width, width, 3), nn.Conv2d(width, 4 * bins, 1))


def class_tower(c_in: int, width: int, num_classes: int) -> nn.Sequential:
    """Two pairs of depthwise 3x3 and 1x1 convolutions, and a 1x1 to the logits."""
    first = (depthwise(c_in), Conv(c_in, width))
    second = (depthwise(width), Conv(width, width))
    return nn.Sequential(*first, *second, nn.Conv2d(width, num_classes, 1))
