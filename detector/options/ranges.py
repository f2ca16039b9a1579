"""Ranges of options, as ``det tune`` takes them: ``log:1e-4..1e-1``, ``0..1``, ``MuSGD|AdamW``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .errors import UsageError
from .fields import Option, options_of
from .parse import convert, find_option, show
from .spans import SPAN
from .train import TrainConfig

GROUPS = ("Optimizer", "Loss", "Augmentation")
OTHERS = ("model", "batch", "imgsz", "freeze", "pretrained")
"""What may vary beside the options of GROUPS: the rest says what is trained on, where, how long."""


@dataclass(frozen=True)
class Range:
    """What one option may be.  low, high: inclusive; log: drawn evenly in the logarithm; whole:
    whole numbers.  choices: the values instead of a span."""

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def holds(self, value: Any) -> bool:
        """Whether ``value`` may be drawn."""
        if self.choices:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        if self.choices:
            return "|".join(map(show, self.choices))
        return f"{'log:' * self.log}{self.low:g}..{self.high:g}"


def read_range(name: str, text: object) -> Range:
    """A range from its text, or from a list of choices.  Raises UsageError."""
    option = find_option(TrainConfig, name)
    if option.group not in GROUPS and name not in OTHERS:
        raise UsageError(
            f"{name} cannot be searched: it says what is trained on, where or for how long"
        )
    if isinstance(text, list | tuple):
        return _choices(option, list(text))
    match = SPAN.fullmatch(str(text).strip())
    if match is None:
        parts = [part.strip() for part in str(text).split("|")]
        if len(parts) < 2:
            raise UsageError(
                f"{name}={text}: expected a range ({name}=0.1..0.9, {name}=log:1e-4..1e-1) or "
                "choices (optimizer=MuSGD|AdamW)"
            )
        return _choices(option, parts)
    return _span(option, match)


def _choices(option: Option, parts: list[Any]) -> Range:
    values = tuple(dict.fromkeys(convert(option, part) for part in parts))
    if len(values) < 2:
        raise UsageError(f"{option.name}: a search needs two different choices")
    return Range(option.name, choices=values)


def _span(option: Option, match: re.Match[str]) -> Range:
    if option.kinds[-1] not in (int, float):
        raise UsageError(f"{option.name}={match[0]}: {option.wanted}, with | between choices")
    low, high = (convert(option, part) for part in match.group(2, 3))
    log = match[1] is not None
    if low >= high:
        raise UsageError(f"{option.name}={match[0]}: the first number must be the smaller one")
    if log and low <= 0:
        raise UsageError(f"{option.name}={match[0]}: a range in the logarithm begins above 0")
    return Range(option.name, low, high, log, option.kinds[-1] is int)


def read_ranges(text: str) -> dict[str, Range]:
    """``lr0=log:1e-4..1e-1 mosaic=0..1`` as ranges by option.  Raises UsageError."""
    found = {}
    for part in text.split():
        name, equals, value = part.partition("=")
        if not equals or name not in options_of(TrainConfig):
            find_option(TrainConfig, name)  # raises with the nearest word
            raise UsageError(f"ranges={text}: expected option=range, found '{part}'")
        found[name] = read_range(name, value)
    return found
