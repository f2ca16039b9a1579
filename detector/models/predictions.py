"""Predictions: the output of a head branch for every anchor point.

Letters: B images, A anchor points over all levels, C classes, R bins per box side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

ONE_TO_MANY = "one_to_many"
ONE_TO_ONE = "one_to_one"
AUXILIARY = "auxiliary"
"""A branch on its own features, used only in training (YOLOv9)."""


@dataclass(frozen=True)
class Predictions:
    """One branch of a head, before any decoding.

    logits: [B,A,C] class scores before the sigmoid.  distances: [B,A,4R] left, top, right, bottom:
    with R = 1 directly in stride units, with R > 1 the logits of a distribution over 0..R-1 per
    side (side-major).  points: [A,2] float32 anchor points x, y in input pixels (cell centers).
    strides: [A] float32.
    """

    logits: torch.Tensor
    distances: torch.Tensor
    points: torch.Tensor
    strides: torch.Tensor

    @property
    def reg_max(self) -> int:
        """R, the bins per side."""
        return self.distances.shape[-1] // 4
