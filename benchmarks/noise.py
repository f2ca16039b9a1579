"""A batch of noise, for benchmarks of the training step."""

from __future__ import annotations

from pathlib import Path

import torch
from yolodet.datasets.nouns import Batch


def noise_batch(
    count: int, side: int, *, boxes: int = 8, size: float = 1 / 6, classes: int = 1, seed: int = 0
) -> Batch:
    """``count`` images of ``side`` x ``side`` pixels with ``boxes`` boxes each.  size: of a box, as
    a share of the side."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    corners = torch.rand(boxes * count, 2, generator=generator) * side / 2
    return Batch(
        images=images.contiguous(memory_format=torch.channels_last),
        boxes=torch.cat((corners, corners + side * size), 1),
        labels=torch.randint(0, classes, (boxes * count,), generator=generator),
        batch_index=torch.arange(count).repeat_interleave(boxes),
        indices=list(range(count)),
        paths=[Path(f"{i}.jpg") for i in range(count)],
        original_sizes=[(side, side)] * count,
        letterboxes=[None] * count,
    )
