"""``time=``: how many epochs fit into a time limit, the start and the report included."""

from __future__ import annotations

import math
import time

from ..run.words import duration

PROBE = 6
"""Batches of the first epoch after which its length is estimated."""
VALIDATION = 0.4
"""Guess for the first epoch: a validated image takes this share of a trained one's time."""
REPORT_SECONDS = 6.0
"""For the pictures and files at the end, beside the last validation."""


class Budget:
    """began: ``time.monotonic()`` of the start of the command, before torch was loaded.

    before: seconds that the run took before it was resumed.
    """

    def __init__(self, hours: float, began: float) -> None:
        self.seconds = hours * 3600
        self.began = began
        self.before = 0.0

    def __str__(self) -> str:
        return f"time={self.seconds / 3600:g} ({duration(self.seconds)})"

    def left(self) -> float:
        """Seconds until the limit."""
        return self.seconds - self.before - (time.monotonic() - self.began)

    def more_epochs(self, epoch_seconds: float, val_seconds: float) -> int:
        """Whole epochs that fit before the report.  epoch_seconds: training and validation of one.
        val_seconds: of one validation, which the report repeats."""
        left = self.left() - val_seconds - REPORT_SECONDS
        return max(math.floor(left / epoch_seconds), 0)


def first_estimate(train_seconds: float, images: tuple[int, int]) -> tuple[float, float]:
    """Seconds of an epoch with its validation, and of the validation, before one was measured.

    train_seconds: of the training alone.  images: to train and to validate.
    """
    val = train_seconds / images[0] * images[1] * VALIDATION
    return train_seconds + val, val
