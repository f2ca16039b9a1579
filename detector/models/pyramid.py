"""The graph that all families share: a backbone with three levels and a neck that mixes them.

Families differ in their blocks and widths.  Strides of the three levels are 8, 16 and 32; models
for small objects have a fourth one of stride 4.  Source of the neck: path aggregation, PANet (arXiv
1803.01534).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .blocks import Add, Aggregate, join

Features = tuple[torch.Tensor, ...]
"""Levels, the finest first, such as stride 8, 16 and 32: [B,C3,H/8,W/8], [B,C4,H/16,W/16],
[B,C5,H/32,W/32]."""


class Backbone(nn.Module):
    """Stages in order; the levels are the outputs of the stages ``levels`` and of the last one."""

    def __init__(
        self, stages: Mapping[str, nn.Module], levels: Sequence[str] = ("stage3", "stage4")
    ) -> None:
        super().__init__()
        self.levels = tuple(levels)
        for name, stage in stages.items():
            self.add_module(name, stage)

    def forward(self, x: torch.Tensor) -> Features:
        levels = []
        for name, stage in self.named_children():
            x = stage(x)
            if name in self.levels:
                levels.append(x)
        return (*levels, x)


class Neck(nn.Module):
    """Top-down, then bottom-up, so that every level gets information from every other.

    ``mix_*`` blocks take two concatenated maps, ``down_*`` halve the resolution, ``lateral*``
    narrow a map before it is upsampled and used again bottom-up (an identity in most families).
    """

    def __init__(
        self,
        *,
        mix_down4: nn.Module,
        mix_down3: nn.Module,
        down3: nn.Module,
        mix_up4: nn.Module,
        down4: nn.Module,
        mix_up5: nn.Module,
        lateral5: nn.Module | None = None,
        lateral4: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.lateral5 = lateral5 or nn.Identity()
        self.mix_down4 = mix_down4
        self.lateral4 = lateral4 or nn.Identity()
        self.mix_down3 = mix_down3
        self.down3 = down3
        self.mix_up4 = mix_up4
        self.down4 = down4
        self.mix_up5 = mix_up5

    def forward(self, features: Features) -> Features:
        fine, middle, coarse = self.top_down(features)
        return self.bottom_up(fine, middle, coarse)

    def top_down(self, features: Features) -> Features:
        """Levels of stride 8, 16 and 32, each with what the coarser ones know."""
        level3, level4, level5 = features
        coarse = self.lateral5(level5)
        middle = self.lateral4(self.mix_down4(upsample_join(coarse, level4)))
        return self.mix_down3(upsample_join(middle, level3)), middle, coarse

    def bottom_up(self, out3: torch.Tensor, middle: torch.Tensor, coarse: torch.Tensor) -> Features:
        """The outputs of stride 8, 16 and 32."""
        out4 = self.mix_up4(join((self.down3(out3), middle)))
        out5 = self.mix_up5(join((self.down4(out4), coarse)))
        return out3, out4, out5


class FineNeck(Neck):
    """A neck with a fourth level, of stride 4, on one more step down and up.

    The way back up is added to the level of stride 8, and its last norm begins with a gain of 0
    (Goyal et al. 2017, arXiv 1706.02677, section 5.1): with the weights of a ``Neck`` the three
    coarser levels are at first exactly what they are there.
    """

    def __init__(
        self, *, mix_down2: nn.Module, down2: nn.Module, mix_up3: Aggregate, **plain: Any
    ) -> None:
        super().__init__(**plain)
        self.mix_down2 = mix_down2
        self.down2 = down2
        self.mix_up3 = mix_up3
        self.add3 = Add()
        nn.init.zeros_(mix_up3.merge.norm.weight)  # type: ignore[arg-type]

    def forward(self, features: Features) -> Features:
        level2, *coarser = features
        fine, middle, coarse = self.top_down(tuple(coarser))
        out2 = self.mix_down2(upsample_join(fine, level2))
        out3 = self.add3(fine, self.mix_up3(join((self.down2(out2), fine))))
        return (out2, *self.bottom_up(out3, middle, coarse))


def upsample_join(small: torch.Tensor, large: torch.Tensor) -> torch.Tensor:
    """``small`` [B,C,H,W], enlarged 2x by nearest neighbor, joined with ``large`` [B,D,2H,2W]."""
    return join((F.interpolate(small, scale_factor=2.0, mode="nearest"), large))
