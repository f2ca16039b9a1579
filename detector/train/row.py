"""The row of an epoch in results.csv."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..losses.detection import PARTS
from .evaluator import Measured
from .optim import learning_rates
from .position import Position
from .step import TrainStep


def train_row(at: Position, step: TrainStep) -> dict[str, Any]:
    """The columns that training fills."""
    row: dict[str, Any] = {"epoch": at.epoch + 1, "time": at.seconds}
    for name, loss in mean_losses(at, step.criterion.part_names).items():
        row[f"train/{name}_loss"] = loss
    row |= learning_rates(step.optimizer)
    row["images_per_s"] = at.sums["images"] / at.sums["seconds"]
    row["precision"] = step.precision.name
    row["loss_scale"] = step.scaler.get_scale()
    row["skipped"] = at.skipped
    return row


def val_row(measured: Measured | None, columns: Iterable[str]) -> dict[str, float]:
    """The columns that the validation fills; nan where there was none.  columns: of metrics."""
    losses, metrics = (measured.losses, measured.columns) if measured else ({}, {})
    row = {f"val/{name}_loss": losses.get(name, math.nan) for name in PARTS}
    return row | {f"metrics/{name}": metrics[name] if measured else math.nan for name in columns}


def mean_losses(at: Position, names: Iterable[str]) -> dict[str, float]:
    """The parts of the loss, of the epoch so far; nan before the first batch with a finite loss."""
    learned = float(at.sums.get("learned", 0))
    return {name: float(at.sums[name]) / learned if learned else math.nan for name in names}
