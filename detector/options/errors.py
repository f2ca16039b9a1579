"""Errors about what was typed, and the nearest word to offer."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ...files.errors import InputError


class UsageError(InputError):
    """A command that can not be run as given.  The message is one line that names the mend."""


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


def _did_you_mean(word: str, candidates: Iterable[str]) -> str:
    found = nearest(word, candidates)
    if not found:
        return ""
    return "; did you mean " + " or ".join(f"'{match}'" for match in found) + "?"
