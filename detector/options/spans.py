"""Which values spell a range instead of a value: ``0..1``, ``log:1e-4..1e-1``, ``MuSGD|AdamW``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
SPAN = re.compile(rf"(log:)?({_NUMBER})\.\.({_NUMBER})")


def as_words(space: object) -> dict[str, Any]:
    """``space=`` of Python as words: a file, or a dictionary of option -> range, where a tuple of
    two numbers is a span, and a list holds choices."""
    if not isinstance(space, Mapping):
        return {} if space is None else {"space": str(space)}
    return {str(name): _spelled(span) for name, span in space.items()}


def _spelled(span: object) -> Any:
    if not isinstance(span, list | tuple):
        return span
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in span)
    if isinstance(span, tuple) and len(span) == 2 and numbers:
        return f"{span[0]}..{span[1]}"
    return "|".join(map(str, span))


def is_range(text: object) -> bool:
    """Whether a value spells a range: a span of numbers, or choices."""
    return isinstance(text, str) and (SPAN.fullmatch(text.strip()) is not None or "|" in text)


def collected(words: Mapping[str, Any]) -> dict[str, Any]:
    """``words`` with those that spell a range moved into ``ranges``."""
    spans = {n: v for n, v in words.items() if is_range(v) and n not in ("ranges", "space")}
    if not spans:
        return dict(words)
    kept = {name: value for name, value in words.items() if name not in spans}
    texts = [f"{name}={value.strip()}" for name, value in spans.items()]
    kept["ranges"] = " ".join([*([str(words["ranges"])] if "ranges" in words else []), *texts])
    return kept
