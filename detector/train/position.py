"""How far a run is: all its progress that is not a tensor of the model or the optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Position:
    """epoch, batch: what comes next.  updates: optimizer steps done.  skipped: updates left out.

    seconds: of training and validation, finished epochs only.  best_map, best_epoch: score and
    epoch of the best checkpoint.  improved_epoch: the first one with that score.  rows: of
    results.csv.  sums: of the epoch so far: loss parts (tensors on the device), images, seconds.
    """

    epoch: int = 0
    batch: int = 0
    updates: int = 0
    skipped: int = 0
    seconds: float = 0.0
    best_map: float = -math.inf
    best_epoch: int = -1
    improved_epoch: int = -1
    rows: list[dict[str, Any]] = field(default_factory=list)
    sums: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.improved_epoch < 0:  # in a state that was written before ties went to the newest
            self.improved_epoch = self.best_epoch

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def add(self, name: str, value: Any) -> None:
        """Add to a sum of the epoch; a tensor stays on its device, without waiting for it."""
        self.sums[name] = self.sums.get(name, 0.0) + value
