"""Slips of people who write their first YAML, found in its text when it cannot be read."""

from __future__ import annotations

import re
from pathlib import Path

from ...files.regular import read_regular

KEYS = "path|train|val|test|names|nc|format"
HEAD = 64 * 1024


def find_slip(path: Path) -> str | None:
    """``file:line: the slip and its fix``, None where there is none that is known."""
    try:
        lines = read_regular(path, HEAD).decode("utf-8-sig", errors="replace").splitlines()
    except OSError:
        return None
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        if "\t" in line[: len(line) - len(line.lstrip())]:
            return f"{where}: a tab at the beginning of the line: YAML wants spaces"
        if found := re.match(rf"\s*({KEYS}):([^\s].*)", line):
            key, value = found.groups()
            return f"{where}: no space after the colon: write '{key}: {value.strip()[:60]}'"
        if found := re.match(rf"\s*({KEYS})\s*=\s*(.*)", line):
            key, value = found.groups()
            return f"{where}: YAML wants a colon, not =: write '{key}: {value.strip()[:60]}'"
    return None
