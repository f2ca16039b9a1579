"""Detectors of one input channel, for gray images (``channels=1``).

Images stay [B,3,H,W] on their way to the model; a gray one has three equal channels.  A detector
with a one-channel stem reads their luma, which is then that channel, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ...weights.architecture import Architecture

READING = ("backbone.stem.conv", "backbone.stem.conv.conv", "auxiliary.stem.conv")
"""Paths of the convolutions that read images, in all families."""
RED, BLUE = 0.299, 0.114
"""Shares of luma, ITU-R BT.601; green has the rest."""


def to_gray(images: Tensor) -> Tensor:
    """[B,3,H,W] RGB as their luma [B,1,H,W] of the same type; [B,1,H,W] as it is."""
    if images.shape[1] == 1:
        return images
    red, green, blue = (images if images.is_floating_point() else images.float()).split(1, 1)
    luma = green + RED * (red - green) + BLUE * (blue - green)
    return luma if images.is_floating_point() else luma.round().to(images.dtype)


def with_channels(architecture: Architecture, channels: int) -> Architecture:
    """The same model for images of 1 or 3 channels."""
    widths = dict(architecture.widths)
    for path in READING:
        if path in widths:
            c_in, c_out, groups = widths[path]
            widths[path] = (c_in // _channels(c_in) * channels, c_out, groups)
    return replace(architecture, widths=widths)


def stem_with(tensors: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    """Tensors of a detector for images of 1 or 3 channels.

    From three channels to one the weights are summed, from one to three a third goes to each: on
    gray images the convolution gives the same.
    """
    changed = dict(tensors)
    for path in READING:
        weight = tensors.get(f"{path}.weight")
        if weight is None or _channels(weight.shape[1]) == channels:
            continue
        if channels == 1:
            changed[f"{path}.weight"] = weight.unflatten(1, (-1, 3)).sum(2)
        else:
            changed[f"{path}.weight"] = torch.repeat_interleave(weight / 3, 3, 1)
    return changed


def _channels(c_in: int) -> int:
    """Of the images: YOLOX reads four grids of them."""
    return 1 if c_in in (1, 4) else 3
