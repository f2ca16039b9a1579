"""The ranges that quantization-aware training starts from: measured on training images.

Each batch gives the smallest and largest value of every tensor, and a range is their mean over the
batches: one image with an outlier does not stretch it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ..models.detector import Detector
from .simulate import ranges_of

IMAGES = 256
"""Images to measure on."""


@torch.no_grad()
def calibrate(model: Detector, batches: Iterable[torch.Tensor]) -> int:
    """Measure the ranges of a detector that simulates 8 bits on the first IMAGES images, in place.

    batches: of images [B,3,H,W] as ``Detector.forward`` takes them.  The values are those of the
    float detector.  Returns the number of images.
    """
    ranges = ranges_of(model)
    assert ranges is not None
    training, device, images, count = model.training, ranges.ends.device, 0, 0
    sums: dict[int, torch.Tensor] = {}  # rows of sums that are never computed have none
    model.eval()
    ranges.measuring = True
    try:
        for batch in batches:
            ranges.watch()
            model(batch.to(device))
            for row, ends in ranges.seen().items():
                sums[row] = sums.get(row, 0) + ends.double()
            images, count = images + len(batch), count + 1
            if images >= IMAGES:
                break
    finally:
        ranges.measuring = False
        model.train(training)
    for row, total in sums.items():
        ranges.ends[row] = (total / count).float()
    return images
