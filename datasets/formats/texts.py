"""Text and JSON files of label formats, read with the errors of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...files.json_text import parse_json
from ...files.regular import read_regular
from ..sets.dataset import DatasetError


def read_text(file: Path) -> str:
    """UTF-8 text, with or without a byte order mark; raises DatasetError."""
    try:
        return read_regular(file).decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file}: is not UTF-8 text (byte {error.start})") from error


def load_json(file: Path) -> Any:
    """The content of a JSON file; raises DatasetError."""
    text = read_text(file)  # outside of what follows: its error is a ValueError too
    try:
        return parse_json(text)
    except ValueError as error:
        raise DatasetError(f"{file}: is not valid JSON: {error}") from error
