"""``memory=8GiB``: an amount of memory with its unit, or ``auto``."""

from __future__ import annotations

import re

from .errors import UsageError

UNITS = {
    "gib": 2**30, "g": 2**30, "gb": 10**9,
    "mib": 2**20, "m": 2**20, "mb": 10**6,
}  # fmt: skip
_SIZE = re.compile(r"(\d{1,9}(?:\.\d*)?|\.\d+) *([a-z]*)", re.IGNORECASE)


def memory_bytes(text: str) -> int | None:
    """Bytes; None for ``auto``.  Raises UsageError for anything else, with what was meant."""
    word = text.strip().lower()
    if word == "auto":
        return None
    wanted = "expected a size with its unit, e.g. memory=8GiB or memory=800MiB, or auto"
    match = _SIZE.fullmatch(word)
    if match is None or match[2] not in ("", *UNITS):
        raise UsageError(f"memory={text}: {wanted}")
    if not match[2] and float(match[1]):
        raise UsageError(f"memory={text} has no unit: write memory={match[1]}GiB, or auto")
    size = int(float(match[1]) * UNITS.get(match[2], 0))
    if size == 0:
        raise UsageError(f"memory={text} leaves nothing to train in: {wanted}")
    return size
