"""class_weights=: how much each class counts in the classification loss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...datasets.formats.record import Record
from ..evaluate.class_names import class_number
from ..options.errors import UsageError, did_you_mean

BALANCED = "balanced"


def parse_class_weights(text: str) -> dict[str, float]:
    """``rare:2,common:0.5`` -> weights by name; empty for ``balanced``.  Raises UsageError."""
    if text.strip() == BALANCED:
        return {}
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.rpartition(":"))
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not name or not 0 < weight < math.inf:
            raise UsageError(
                f"class_weights={text}: {part.strip()!r} is not a weight: expected {BALANCED}, or "
                "class names with numbers above 0, e.g. class_weights=rare:2,common:0.5"
            )
        if name in weights:
            raise UsageError(f"class_weights={text} names {name!r} twice: give it one weight")
        weights[name] = weight
    return weights


def class_weights(
    text: str | None, class_names: Sequence[str], records: Sequence[Record]
) -> np.ndarray | None:
    """[C] float32 weights of all classes; None where every class counts the same.

    Balanced weights are ``w(c) = a / sqrt(n(c))`` with the number n of boxes of a class in
    ``records``; a makes their mean over all boxes 1.  A class without a box has 1.
    Raises UsageError for a class that does not exist.
    """
    if text is None:
        return None
    weights = np.ones(len(class_names), np.float32)
    named = parse_class_weights(text)
    for name, weight in named.items():
        weights[_number(name, class_names, text)] = weight
    if not named:
        labels = [record.without_crowd().labels for record in records]
        boxes = np.bincount(np.concatenate(labels), minlength=len(class_names))
        present = boxes > 0
        weights[present] = boxes.sum() / np.sqrt(boxes).sum() / np.sqrt(boxes[present])
    return weights


def describe_weights(weights: np.ndarray, class_names: Sequence[str]) -> str:
    """The weights other than 1, largest first."""
    order = [c for c in np.argsort(-weights, kind="stable") if weights[c] != 1]
    named = [f"{class_names[c]} {weights[c]:.3g}" for c in order]
    rest = ["others 1"] if len(named) < len(weights) else []
    return ", ".join([*named, *rest])


def _number(word: str, class_names: Sequence[str], text: str) -> int:
    if (number := class_number(word, class_names)) is not None:
        return number
    near = did_you_mean(word, class_names) or f"choose from {', '.join(class_names)}"
    raise UsageError(f"class_weights={text}: unknown class {word!r}: {near}")
