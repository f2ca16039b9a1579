"""Files that are the same, byte by byte, or by their names versions of one picture."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from ...files.regular import open_regular

ENDS_BYTES = 4096
"""Bytes at either end that are compared before whole files are."""
_ROBOFLOW = re.compile(r"\.rf\.[0-9a-zA-Z]+\.[^./]+$")


def picture_of(path: str) -> str | None:
    """The path without what Roboflow adds to the name of each version that it makes of a picture
    (``cat_jpg.rf.0a1b.jpg``); None for other names."""
    found = _ROBOFLOW.search(path)
    return path[: found.start()] if found else None


def same_content(paths: list[Path]) -> list[list[Path]]:
    """Groups of files with equal bytes: compared by size, then by their ends, then by hash."""
    groups = [paths]
    for key in (_size, _ends, _whole):
        groups = [finer for group in groups for finer in _split_by(group, key)]
    return groups


def _split_by(paths: list[Path], key: Callable[[Path], object]) -> list[list[Path]]:
    """Groups of two and more files with the same key; a file that has gone is in none."""
    parts: dict[object, list[Path]] = defaultdict(list)
    for path in paths:
        try:
            parts[key(path)].append(path)
        except OSError:
            continue
    return [part for part in parts.values() if len(part) > 1]


def _size(path: Path) -> int:
    return os.stat(path).st_size


def _ends(path: Path) -> bytes:
    with open_regular(path) as file:
        head = file.read(ENDS_BYTES)
        file.seek(max(0, os.fstat(file.fileno()).st_size - ENDS_BYTES))
        return hashlib.sha256(head + file.read()).digest()


def _whole(path: Path) -> bytes:
    with open_regular(path) as file:
        digest = hashlib.sha256()
        while part := file.read(2**20):
            digest.update(part)
        return digest.digest()
