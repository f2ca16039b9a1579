"""The environment variables by which trackers are told where to write."""

from __future__ import annotations

import os


def value_of(name: str) -> str | None:
    """What the user has set; None for nothing."""
    return os.environ.get(name) or None


def set_default(name: str, value: str) -> None:
    """Set a variable that the user has not set."""
    os.environ.setdefault(name, value)
