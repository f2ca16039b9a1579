"""How much the loss rises when a group is narrowed, measured on training images, group by group.

The least important channels of one group are set to zero, the loss is measured, and they are put
back.  A criterion compares channels of one group well and channels of different groups badly; what
is measured here decides how much each group loses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...datasets.nouns import Batch
from ..evaluate.postprocess import branches_for
from ..losses.detection import DetectionLoss
from ..models.detector import Detector
from .channels import Group, Trace
from .importance import Scores
from .narrow import makers

UNIT = 8
"""Widths stay multiples of it: kernels compute 8 or 16 channels at once."""
SHARES = (0.25, 0.5, 0.75)
"""Of a group, that are removed to see what happens."""


@dataclass(frozen=True)
class Sensitivity:
    """One group.  order: channels of each part, the most important first.  kept: channels per part
    that were tried, falling; the first is all.  rise: of the loss, never falling; the first is 0.
    """

    group: Group
    order: tuple[np.ndarray, ...]
    kept: tuple[int, ...]
    rise: tuple[float, ...]

    @property
    def least(self) -> int:
        """The fewest channels that a part may keep."""
        return self.kept[-1]

    def loss(self, kept: float) -> float:
        """The rise of the loss with so many channels, between those that were measured."""
        return float(np.interp(kept, self.kept[::-1], self.rise[::-1]))

    def removed(self, kept: int) -> set[int]:
        """The channels that are removed if each part keeps so many."""
        return {int(root) for part in self.order for root in part[kept:]}


def narrow_groups(groups: Sequence[Group]) -> list[Group]:
    """The groups that can lose channels and keep a multiple of UNIT."""
    return [group for group in groups if group.width > UNIT]


def counts_of(width: int) -> tuple[int, ...]:
    """The numbers of channels to try, falling: all, then multiples of UNIT near the SHARES."""
    wanted = [round(width * (1 - share) / UNIT) * UNIT for share in SHARES]
    return (width, *sorted({max(n, UNIT) for n in wanted if n < width}, reverse=True))


def measure(
    model: Detector,
    trace: Trace,
    groups: Sequence[Group],
    scores: Scores,
    batches: Sequence[Batch],
    criterion: DetectionLoss,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Sensitivity]:
    """The sensitivity of each group.  batches: training images without augmentation.

    Raises nothing of its own; the model is as before when it returns."""
    model.eval()
    base, found = mean_loss(model, batches, criterion), []
    for number, group in enumerate(groups):
        order = tuple(
            np.array(sorted(part.tolist(), key=lambda root: -scores.get(root, 0.0)))
            for part in group.parts
        )
        kept, rise = counts_of(group.width), [0.0]
        for count in kept[1:]:
            gone = {int(root) for part in order for root in part[count:]}
            loss = _loss_without(model, trace, gone, batches, criterion)
            rise.append(max(loss - base, rise[-1]))
        found.append(Sensitivity(group, order, kept, tuple(rise)))
        if on_progress is not None:
            on_progress(number + 1, len(groups))
    return found


@torch.no_grad()
def _loss_without(
    model: Detector,
    trace: Trace,
    removed: set[int],
    batches: Sequence[Batch],
    criterion: DetectionLoss,
) -> float:
    """The loss with channels at zero, which are put back."""
    made = [(tensor, rows, tensor[rows].clone()) for tensor, rows in makers(model, trace, removed)]
    for tensor, rows, _ in made:
        tensor[rows] = 0
    try:
        return mean_loss(model, batches, criterion)
    finally:
        for tensor, rows, values in made:
            tensor[rows] = values


@torch.no_grad()
def mean_loss(model: Detector, batches: Sequence[Batch], criterion: DetectionLoss) -> float:
    """The loss of the labels per image, of the branch that is deployed."""
    branches = branches_for(False, model.branches)
    total = sum(float(criterion(model(b.images, branches), b).total) for b in batches)
    return total / sum(len(batch) for batch in batches)
