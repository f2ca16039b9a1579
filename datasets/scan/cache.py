"""What a scan has learnt, kept on disk: plain arrays in the cache folder, never beside the data.

A row holds for one image as long as the image and its label file have the size and the time of
change they had when it was read, so a cache never needs to be deleted by hand.  It is a help and
nothing more: a file that is damaged, of another version or not writable is passed over in silence
and the data set is read again.  No pickle: arrays of numbers and text only.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...files.folders import cache_folder
from ..formats.record import Finding
from ..sets.locate import Dataset, DatasetError

VERSION = 1
"""Raised whenever the same files would give other rows than before."""

DAMAGED = (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zlib.error,
           zipfile.BadZipFile)


class Entry(NamedTuple):
    """What is known of one image.

    size: (height, width), None where the image cannot be used.  boxes: [N,4] float32 xyxy pixels.
    labels: [N] int64.
    """

    size: tuple[int, int] | None
    boxes: np.ndarray
    labels: np.ndarray
    findings: Sequence[Finding]


def cache_path(dataset: Dataset, split: str, fraction: float) -> Path | None:
    """The cache file of a scan; None where there is no cache folder."""
    sources = [os.path.abspath(source) for source in dataset.sources(split)]
    key = json.dumps([VERSION, sources, dataset.num_classes, fraction])
    try:
        return cache_folder() / "scans" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    except DatasetError:
        return None


def load_entries(
    file: Path, images: Sequence[str], label_files: Sequence[str], stamps: np.ndarray
) -> list[Entry | None]:
    """For each image what the cache knows about it, or None.

    stamps: [n,4] int64, size and time of change of each image and of its label file.
    """
    nothing: list[Entry | None] = [None] * len(images)
    try:
        with np.load(file, allow_pickle=False) as stored:
            table = {name: stored[name] for name in stored.files}
        places = _places(table, images, stamps)
        findings = _load_findings(table, places, images, label_files)
        return _entries(table, places, findings)
    except DAMAGED:
        return nothing


def _places(table: dict[str, np.ndarray], images: Sequence[str], stamps: np.ndarray) -> np.ndarray:
    """Row of the table for each image [n], -1 where there is none that still holds."""
    known = table["paths"].tobytes().split(b"\0") if table["paths"].size else []
    rows = len(known)
    shapes = (table["stamps"].shape, table["sizes"].shape, table["counts"].shape)
    total = int(table["counts"].sum())
    if shapes != ((rows, 4), (rows, 2), (rows,)) or table["counts"].min(initial=0) < 0:
        raise ValueError("columns of different lengths")
    if table["boxes"].shape != (total, 4) or table["labels"].shape != (total,):
        raise ValueError("boxes and counts disagree")
    index = {os.fsdecode(path): row for row, path in enumerate(known)}
    places = np.array([index.get(path, -1) for path in images], np.int64)
    if rows:
        places[(table["stamps"][places] != stamps).any(axis=1)] = -1
    return places


def _load_findings(
    table: dict[str, np.ndarray],
    places: np.ndarray,
    images: Sequence[str],
    label_files: Sequence[str],
) -> dict[int, list[Finding]]:
    """Row of the table -> its findings."""
    numbers = {int(row): number for number, row in enumerate(places) if row >= 0}
    found: dict[int, list[Finding]] = {}
    for row, id, severity, of_label, line, message in json.loads(table["findings"].tobytes()):
        if row in numbers:
            path = Path((label_files if of_label else images)[numbers[row]])
            found.setdefault(row, []).append(Finding(id, severity, path, line, message))
    return found


def _entries(
    table: dict[str, np.ndarray], places: np.ndarray, findings: dict[int, list[Finding]]
) -> list[Entry | None]:
    ends = np.cumsum(table["counts"])
    starts = (ends - table["counts"]).tolist()
    stops = ends.tolist()
    sizes = table["sizes"].tolist()
    boxes = table["boxes"].astype(np.float32, copy=False)
    labels = table["labels"].astype(np.int64)
    entries: list[Entry | None] = []
    for row in places.tolist():
        if row < 0:
            entries.append(None)
            continue
        part = slice(starts[row], stops[row])
        height, width = sizes[row]
        entries.append(Entry((height, width), boxes[part], labels[part], findings.get(row, ())))
    return entries


def is_lasting(entry: Entry) -> bool:
    """Whether an entry holds until a stamp changes.

    A problem that is mended from outside (access rights, a mount) leaves the stamps as they are,
    so what could not be read must be tried again each time.
    """
    return entry.size is not None and not any(
        finding.id == "label-unreadable" for finding in entry.findings
    )


def save_entries(
    file: Path, images: Sequence[str], stamps: np.ndarray, entries: Sequence[Entry]
) -> None:
    """Write the lasting entries.  stamps: as for ``load_entries``."""
    rows = [number for number, entry in enumerate(entries) if is_lasting(entry)]
    kept = [entries[row] for row in rows]
    findings = [
        (row, found.id, found.severity, os.fspath(found.path) != images[number], found.line,
         found.message)
        for row, (number, entry) in enumerate(zip(rows, kept, strict=True))
        for found in entry.findings
    ]
    paths = b"\0".join(os.fsencode(images[row]) for row in rows)
    columns = {
        "paths": np.frombuffer(paths, np.uint8),
        "stamps": stamps[rows],
        "sizes": np.array([entry.size for entry in kept], np.int32).reshape(-1, 2),
        "counts": np.array([len(entry.labels) for entry in kept], np.int64),
        "boxes": np.concatenate([np.zeros((0, 4), np.float32), *(e.boxes for e in kept)]),
        "labels": np.concatenate([np.zeros(0, np.int32), *(e.labels for e in kept)]),
        "findings": np.frombuffer(json.dumps(findings).encode(), np.uint8),
    }
    _write(file, columns)


def _write(file: Path, columns: dict[str, np.ndarray]) -> None:
    """Atomically, or not at all: a full disk or a read-only folder is no reason to stop."""
    part: Path | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        part = Path(name)
        with os.fdopen(handle, "wb") as sink:
            np.savez(sink, allow_pickle=False, **columns)
        os.replace(part, file)
    except OSError:
        if part is not None:
            part.unlink(missing_ok=True)
