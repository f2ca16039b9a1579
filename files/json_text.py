"""JSON files: read without waiting, and with two errors only, however they are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .regular import read_regular


def parse_json(text: str | bytes) -> Any:
    """The value that a text describes.  Raises ValueError, also where it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def read_json(path: Path) -> Any:
    """The value in a JSON file.  Raises OSError (also where it is no regular file), ValueError."""
    return parse_json(read_regular(path))


def read_note(path: Path) -> dict[str, Any]:
    """The object in a JSON file that det keeps for itself; {} where it is missing or damaged."""
    try:
        note = read_json(path)
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
