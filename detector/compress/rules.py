"""The rule of each block: how channels pass through it.

A channel that is removed is missing wherever its value goes: behind a residual addition, a
depthwise convolution, an attention.  Every rule follows the ``forward`` of its block with the
numbers of channels (channels.py) in place of features.  A block without a rule is refused: nothing
is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
from torch import nn

from ..models.blocks import (
    Aggregate,
    Attention,
    AttentionBlock,
    Bottleneck,
    Conv,
    CrossStage,
    PartialAttention,
    PyramidPool,
)
from ..models.detector import Detector
from ..models.head import Branch
from ..models.predictions import AUXILIARY
from ..models.pyramid import Backbone, Neck
from ..models.yolov9 import AverageDown, Elan, RepConv, SecondBackbone, SecondTopDown, TwoPathDown
from ..models.yolox import Focus, ObjectnessBranch
from .channels import CannotPrune, Channels, Trace


def trace(model: Detector) -> Trace:
    """The channels of a detector.  Raises CannotPrune for a block without a rule."""
    found = Trace()
    flow(model, Walk(found, model, ""))
    return found


@dataclass(frozen=True)
class Walk:
    """A place in a model: calling it follows the part with that name."""

    trace: Trace
    block: nn.Module
    path: str

    def __call__(self, name: str, *inputs: Any) -> Any:
        path = f"{self.path}.{name}" if self.path else name
        module = self.block.get_submodule(name)
        return flow(module, Walk(self.trace, module, path), *inputs)

    def each(self, name: str) -> Iterator[str]:
        """The names of the parts of the part ``name``."""
        return (f"{name}.{child}" for child, _ in self.block.get_submodule(name).named_children())

    def halves(self, x: Channels) -> tuple[Channels, Channels]:
        """``x.chunk(2, 1)``"""
        first, second = np.split(x, 2)
        self.trace.even((first, second))
        return first, second


def cat(*parts: Channels) -> Channels:
    """Maps that are joined along their channels."""
    return np.concatenate(parts)


# ---------------------------------------------------------------- one rule per block


@singledispatch
def flow(block: Any, walk: Walk, *inputs: Any) -> Any:
    """The channels of what ``block`` returns.  inputs: the channels of its arguments."""
    raise CannotPrune(f"{walk.path} is a {type(block).__name__}, whose channels det cannot follow")


@flow.register
def _(block: nn.Identity, walk: Walk, x: Any) -> Any:
    return x


@flow.register
def _(block: nn.Conv2d, walk: Walk, x: Channels) -> Channels:
    return walk.trace.conv(walk.path, block, x)


@flow.register
def _(block: Conv, walk: Walk, x: Channels) -> Channels:
    return walk("conv", x)


@flow.register
def _(block: nn.Sequential, walk: Walk, x: Channels) -> Channels:
    for name, _ in block.named_children():
        x = walk(name, x)
    return x


@flow.register
def _(block: Bottleneck, walk: Walk, x: Channels) -> Channels:
    y = walk("conv2", walk("conv1", x))
    if block.residual:
        walk.trace.same(x, y)
    return y


@flow.register
def _(block: CrossStage, walk: Walk, x: Channels) -> Channels:
    chained = walk("chain", walk("enter", x))
    return walk("merge", cat(chained, walk("skip", x)))


@flow.register
def _(block: Aggregate, walk: Walk, x: Channels) -> Channels:
    parts = list(walk.halves(walk("enter", x)))
    for link in walk.each("chain"):
        parts.append(walk(link, parts[-1]))
    return walk("merge", cat(*parts))


@flow.register
def _(block: PyramidPool, walk: Walk, x: Channels) -> Channels:
    entered = walk("enter", x)
    y = walk("merge", cat(*[entered] * 4))
    if block.residual:
        walk.trace.same(x, y)
    return y


@flow.register
def _(block: Attention, walk: Walk, x: Channels) -> Channels:
    """A query and its key meet in a product: they go together.  All heads keep equally many."""
    heads = walk("qkv", x).reshape(block.heads, -1)  # [heads,2*key+value]
    query, key, value = np.split(heads, [block.key_dim, 2 * block.key_dim], 1)
    walk.trace.same(query.ravel(), key.ravel())
    walk.trace.even(query)
    walk.trace.even(value)
    walk.trace.attentions[walk.path] = (block.heads, query.ravel())
    return walk("project", walk("position", value.ravel()))


@flow.register
def _(block: AttentionBlock, walk: Walk, x: Channels) -> Channels:
    attended = walk("attention", x)
    walk.trace.same(x, attended)
    fed = walk("feed", attended)
    walk.trace.same(attended, fed)
    return fed


@flow.register
def _(block: PartialAttention, walk: Walk, x: Channels) -> Channels:
    kept, attended = walk.halves(walk("enter", x))
    return walk("merge", cat(kept, walk("chain", attended)))


@flow.register
def _(block: RepConv, walk: Walk, x: Channels) -> Channels:
    wide = walk("wide", x)
    if not isinstance(block.narrow, nn.Identity):
        walk.trace.same(wide, walk("narrow", x))
    return wide


@flow.register
def _(block: Elan, walk: Walk, x: Channels) -> Channels:
    first, second = walk.halves(walk("enter", x))
    third = walk("step1", second)
    return walk("merge", cat(first, second, third, walk("step2", third)))


@flow.register
def _(block: AverageDown, walk: Walk, x: Channels) -> Channels:
    return walk("conv", x)


@flow.register
def _(block: TwoPathDown, walk: Walk, x: Channels) -> Channels:
    convolved, pooled = walk.halves(x)
    return cat(walk("conv", convolved), walk("pool", pooled))


@flow.register
def _(block: Focus, walk: Walk, x: Channels) -> Channels:
    return walk("conv", cat(x, x, x, x))


@flow.register
def _(block: Backbone, walk: Walk, x: Channels) -> list[Channels]:
    levels = []
    for name, _ in block.named_children():
        x = walk(name, x)
        if name in block.levels:
            levels.append(x)
    return [*levels, x]


@flow.register
def _(block: Neck, walk: Walk, levels: Sequence[Channels]) -> list[Channels]:
    *finer, level3, level4, level5 = levels
    coarse = walk("lateral5", level5)
    middle = walk("lateral4", walk("mix_down4", cat(coarse, level4)))
    out3 = fine = walk("mix_down3", cat(middle, level3))
    outputs = [walk("mix_down2", cat(fine, level2)) for level2 in finer]  # of a FineNeck
    for out2 in outputs:
        out3 = walk("mix_up3", cat(walk("down2", out2), fine))
        walk.trace.same(fine, out3)
    out4 = walk("mix_up4", cat(walk("down3", out3), middle))
    out5 = walk("mix_up5", cat(walk("down4", out4), coarse))
    return [*outputs, out3, out4, out5]


@flow.register
def _(block: Branch, walk: Walk, features: Sequence[Channels]) -> None:
    for room in ("classes", "boxes"):
        for name, x in zip(walk.each(room), features, strict=True):
            walk.trace.fixed(walk(name, x))


@flow.register
def _(block: ObjectnessBranch, walk: Walk, features: Sequence[Channels]) -> None:
    for level, x in enumerate(features):
        x = walk(f"stems.{level}", x)
        walk.trace.fixed(walk(f"classes.{level}", x))
        first, second, last = walk.each(f"boxes.{level}")
        x = walk(second, walk(first, x))
        walk.trace.fixed(walk(last, x))
        walk.trace.fixed(walk(f"objectness.{level}", x))


@flow.register
def _(block: SecondTopDown, walk: Walk, x: Channels, levels: Sequence[Channels]) -> list[Channels]:
    out5 = walk("pool5", levels[2])
    out4 = walk("mix4", cat(out5, levels[1]))
    return [walk("mix3", cat(out4, levels[0])), out4, out5]


@flow.register
def _(block: SecondBackbone, walk: Walk, x: Channels, levels: Sequence[Channels]) -> list[Channels]:
    """A projection of the first backbone is split, and each part is added to a level."""
    ends = np.cumsum(block.splits)
    links = [walk(f"link{i + 3}", level) for i, level in enumerate(levels)]
    projected = [np.split(link, ends[:i]) for i, link in enumerate(links)]
    x = walk("stage2", walk("stem", x))
    outputs = []
    for i in range(3):
        x = walk(f"stage{i + 3}.down", x)
        for parts in projected[i:]:
            walk.trace.same(x, parts[i])
        x = walk(f"stage{i + 3}.mix", x)
        outputs.append(x)
    return outputs


@flow.register
def _(block: Detector, walk: Walk) -> None:
    images = walk.trace.new(block.channels)
    walk.trace.fixed(images)
    levels = walk("backbone", images)
    features = walk("neck", levels)
    for name in block.branches:
        if name != AUXILIARY:
            walk(f"head.{name}", features)
    if block.auxiliary is not None:
        walk(f"head.{AUXILIARY}", walk("auxiliary", images, levels))
