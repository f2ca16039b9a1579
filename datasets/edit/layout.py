"""Which image of which split gets which name in a new data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..formats.record import Record

_RESERVED = {"images", "labels", "annotations", "jpegimages"}
"""Folders that formats take for the place of images or labels; below them they get a ``_``."""


@dataclass(frozen=True)
class Placed:
    """One image of a new data set.

    record: as it was read.  split: its split.  name: its path below the split's folder of images,
    with ``/``; no two names of a split differ only in their ending or in upper and lower case.
    """

    record: Record
    split: str
    name: PurePosixPath


def place_records(split: str, records: Sequence[Record], prefix: str = "") -> list[Placed]:
    """Names for the images of a split: sub-folders below their common folder are kept.

    prefix: put before every name.
    """
    if not records:
        return []
    common = Path(os.path.commonpath([record.path.parent for record in records]))
    taken: set[str] = set()
    placed = []
    for record in records:
        parts = [_plain(part) for part in record.path.parent.relative_to(common).parts]
        name = PurePosixPath(*parts, prefix + record.path.name)
        placed.append(Placed(record, split, free_name(name, taken)))
    return placed


def free_name(name: PurePosixPath, taken: set[str]) -> PurePosixPath:
    """``name``, numbered if a label file of that name is taken; it is then added to ``taken``."""
    found, number = name, 1
    while (key := str(found.with_suffix("")).casefold()) in taken:
        number += 1
        found = name.with_stem(f"{name.stem}_{number}")
    taken.add(key)
    return found


def _plain(part: str) -> str:
    return f"{part}_" if part.casefold() in _RESERVED else part
