"""Multi-scale training: each batch at a size drawn around imgsz."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from ...datasets.nouns import Batch


def resized(batch: Batch, share: float, stride: int, key: tuple[int, int, int]) -> Batch:
    """The whole batch at a multiple of ``stride`` within ``share`` of its size.

    The size is a function of ``key`` (seed, epoch, batch): the same on every rank and after a
    resume.
    """
    size = batch.images.shape[-2:]
    generator = torch.Generator().manual_seed(hash(key) % 2**63)
    draw = torch.rand((), generator=generator).item()
    factor = 1.0 + share * (2.0 * draw - 1.0)
    new = [max(round(side * factor / stride), 1) * stride for side in size]
    if new == list(size):
        return batch
    images = F.interpolate(
        batch.images.float(), size=new, mode="bilinear", antialias=factor < 1.0
    )
    images = images.round().to(torch.uint8).contiguous(memory_format=torch.channels_last)
    gains = batch.boxes.new_tensor((new[1] / size[1], new[0] / size[0]) * 2)
    return replace(batch, images=images, boxes=batch.boxes * gains)
