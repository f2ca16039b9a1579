"""Errors about what was typed, and the nearest word to offer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ...files.errors import InputError


class UsageError(InputError):
    """A command that cannot be run as given.  The message is one line that says how to fix it."""


def nearest(word: str, candidates: Iterable[str]) -> list[str]:
    """Up to two candidates that look like ``word``, the best first; a second only on a near tie."""
    matcher = difflib.SequenceMatcher(b=word.lower())
    likeness: dict[str, float] = {}
    for candidate in candidates:
        matcher.set_seq1(candidate.lower())
        likeness[candidate] = matcher.ratio()
    ranked = sorted(likeness, key=lambda candidate: -likeness[candidate])  # ties stay in order
    limit = max(0.6, max(likeness.values(), default=0.0) - 0.05)
    return [candidate for candidate in ranked if likeness[candidate] >= limit][:2]


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """``did you mean 'epochs'?``, or "" where nothing is near."""
    found = nearest(word, candidates)
    return "did you mean " + " or ".join(f"'{name}'" for name in found) + "?" if found else ""
