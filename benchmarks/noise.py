"""A batch of noise, for benchmarks of the training step."""

from __future__ import annotations

from pathlib import Path

import torch
from yolodet.datasets.nouns import Batch


def noise_batch(count: int, side: int) -> Batch:
    """``count`` images of ``side`` x ``side`` pixels with eight boxes of class 0 each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    corners = torch.rand(8 * count, 2, generator=generator) * side / 2
    return Batch(
        images=images.contiguous(memory_format=torch.channels_last),
        boxes=torch.cat((corners, corners + side / 6), 1),
        labels=torch.zeros(8 * count, dtype=torch.long),
        batch_index=torch.arange(count).repeat_interleave(8),
        indices=list(range(count)),
        paths=[Path(f"{i}.jpg") for i in range(count)],
        original_sizes=[(side, side)] * count,
        letterboxes=[None] * count,
    )
