"""The data types of the data path: Sample (one image with its boxes) and Batch (input of a step).

Boxes are xyxy in absolute pixels, float32; other notations exist only in readers and writers.
Images are RGB.  A Sample keeps OpenCV's [H,W,3] layout; collating stacks to [B,H,W,3] and permutes
the view, so a batch is [B,3,H,W] in channels_last memory at no cost.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # `det data` works on records only and must not wait for torch
    import torch


@dataclass(frozen=True)
class Letterbox:
    """How an image was fitted into the network's input: ``input = original * gain + pad``, in
    pixels."""

    gain: float
    pad_x: float
    pad_y: float


@dataclass(frozen=True)
class Sample:
    """One image and its boxes.

    image: [H,W,3] uint8 RGB.  boxes: [N,4] float32 xyxy pixels of ``image``.  labels: [N] int64.
    original_size: (height, width) of the image file after its EXIF orientation.  letterbox: set by
    the letterbox of validation and prediction; None for augmented samples, which have no way back
    to one original image.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    path: Path
    original_size: tuple[int, int]
    letterbox: Letterbox | None = None


@dataclass(frozen=True)
class Batch:
    """The input of a training or validation step.  B images, M boxes in the whole batch.

    images: [B,3,H,W] uint8 (channels_last memory), RGB.  boxes: [M,4] float32 xyxy pixels of the
    input. labels: [M] int64.  batch_index: [M] int64, the image a box belongs to, ascending.
    indices: place of each image in the data set.  paths, original_sizes (h, w), letterboxes: one
    entry per image.  lost: index of images that turned out to be unreadable, and why.
    """

    images: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor
    batch_index: torch.Tensor
    indices: list[int]
    paths: list[Path]
    original_sizes: list[tuple[int, int]]
    letterboxes: list[Letterbox | None]
    lost: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> Batch:
        """The tensors on ``device``; images stay uint8 (a quarter of the bytes to move)."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, non_blocking=True)

        return replace(
            self,
            images=move(self.images),
            boxes=move(self.boxes),
            labels=move(self.labels),
            batch_index=move(self.batch_index),
        )

    def first(self, count: int) -> Batch:
        """The batch of its first ``count`` images; itself where it has no more."""
        return self if count >= len(self) else self._between(0, count)

    def split(self, most: int) -> list[Batch]:
        """The batch in parts of at most ``most`` images: as few as possible, equal but for one."""
        count = math.ceil(len(self) / most)
        if count <= 1:
            return [self]
        ends = [len(self) * part // count for part in range(count + 1)]
        return [self._between(start, stop) for start, stop in itertools.pairwise(ends)]

    def _between(self, start: int, stop: int) -> Batch:
        kept = (self.batch_index >= start) & (self.batch_index < stop)
        return Batch(
            self.images[start:stop],
            self.boxes[kept],
            self.labels[kept],
            self.batch_index[kept] - start,
            self.indices[start:stop],
            self.paths[start:stop],
            self.original_sizes[start:stop],
            self.letterboxes[start:stop],
            self.lost,
        )

    def pin_memory(self) -> Batch:
        """Page-locked copies for an asynchronous copy to a CUDA device (called by torch's
        DataLoader)."""
        return replace(
            self,
            images=self.images.pin_memory(),
            boxes=self.boxes.pin_memory(),
            labels=self.labels.pin_memory(),
            batch_index=self.batch_index.pin_memory(),
        )
