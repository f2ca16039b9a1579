"""What chooses the best weights of a run: the option ``best=``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..options.errors import UsageError, did_you_mean

if TYPE_CHECKING:  # the checks before torch is loaded need check_metric
    from ...datasets.formats.record import Record
    from ..evaluate.metrics import Metrics

NAMES = {
    "map": "AP", "map50": "AP50", "map75": "AP75", "precision": "precision", "recall": "recall",
    "f1": "F1",
}  # fmt: skip
"""Value of ``best=`` -> the metric's name in messages.  Precision, recall and F1 are means over the
classes at the confidence with the best F1."""
CLASS = "class:"
"""Begins a value that names a class: its AP chooses."""


def check_metric(text: str) -> None:
    """Raise UsageError unless ``text`` is a metric or ``class:NAME``."""
    if not text.removeprefix(CLASS):
        raise UsageError(f"best={text} names no class: expected e.g. best=class:person")
    if not text.startswith(CLASS) and text not in NAMES:
        hint = did_you_mean(text, NAMES) or f"expected {', '.join(NAMES)} or class:NAME"
        raise UsageError(f"best={text}: {hint}")


def check_class(text: str, names: Sequence[str], records: Sequence[Record]) -> None:
    """Raise UsageError if ``text`` names a class that does not exist, or that no image of the
    validation split, ``records``, has a box of."""
    if not text.startswith(CLASS):
        return
    name = text.removeprefix(CLASS)
    if name not in names:
        hint = did_you_mean(name, names) or f"choose from {', '.join(names)}"
        raise UsageError(f"best={text}: no class has that name; {hint}")
    number = list(names).index(name)
    if not any((record.labels == number).any() for record in records):
        raise UsageError(
            f"best={text}: no validation image has a box of this class; name a class that has some"
        )


def name_of(text: str) -> str:
    """The metric in words: ``AP50``, ``AP of person``."""
    return NAMES[text] if text in NAMES else f"AP of {text.removeprefix(CLASS)}"


def score_of(text: str, metrics: Metrics) -> float:
    """The number that is compared between epochs; nan while there is none."""
    if text == "map":
        return metrics.score
    values = {
        "map50": metrics.map_50, "map75": metrics.map_75, "precision": metrics.precision,
        "recall": metrics.recall, "f1": metrics.f1,
    }  # fmt: skip
    if text in values:
        return values[text]
    name = text.removeprefix(CLASS)
    return next(row.ap for row in metrics.per_class if row.name == name)
