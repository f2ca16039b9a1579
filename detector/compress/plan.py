"""How many channels each group keeps: the cheapest rise of the loss for what is saved.

Starting from the whole model, the group whose next UNIT channels cost the least loss per saved
multiply-add (or parameter, or microsecond) loses them, until the cost is low enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .cost import Cost
from .importance import OPPOSITE, RANDOM
from .sensitivity import UNIT, Sensitivity

TIE = 1e-6
"""Share of the largest rise that a full group adds: decides between groups that cost no loss."""


def choose_widths(
    found: Sequence[Sensitivity], cost: Cost, target: float, criterion: str, seed: int = 0
) -> np.ndarray:
    """Channels that the parts of each group keep, [G], with a cost of at most ``target``, or the
    least where that is more.

    criterion: ``random`` draws the order, ``opposite`` begins with what hurts most."""
    kept = cost.widths.copy()
    rng = np.random.default_rng(seed)
    tie = TIE * max([each.rise[-1] for each in found] + [TIE])
    while (now := cost(kept)) > target:
        best, lowest = -1, np.inf
        for number, each in enumerate(found):
            count = next_count(int(kept[number]))
            if count < each.least:
                continue
            trial = kept.copy()
            trial[number] = count
            saved = now - cost(trial)
            if saved <= 0:
                continue
            rise = each.loss(count) - each.loss(kept[number])
            rise += tie * (kept[number] - count) / each.group.width
            score = {RANDOM: rng.random(), OPPOSITE: -rise / saved}.get(criterion, rise / saved)
            if score < lowest:
                best, lowest = number, score
        if best < 0:
            break
        kept[best] = next_count(int(kept[best]))
    return kept


def next_count(kept: int) -> int:
    """The next multiple of UNIT below."""
    return (kept - 1) // UNIT * UNIT
