"""The results of a scan, kept on disk: plain arrays in the cache folder, never beside the data.

A row holds for one image as long as the image and the source of its annotation have the size and
the time of change they had when they were read, so a cache never needs to be deleted by hand.  If
the format lists the images of a split in index files, the list is kept in the same way.  A cache
that is damaged, of another version or not writable is ignored and the data set is read again.
No pickle: arrays of numbers and text only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...files.atomic import write_atomically
from ...files.errors import InputError
from ...files.folders import cache_folder
from ...files.json_text import parse_json
from ...files.regular import open_regular
from ..formats.reader import ABSENT, Reader, stamp_of
from ..sets.dataset import Dataset
from ..sets.finding import Finding
from ..sets.listing import Listing

VERSION = 4
"""Raised whenever the same files would give other rows than before."""

DAMAGED = (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zlib.error,
           zipfile.BadZipFile)

Table = dict[str, np.ndarray]
"""The columns of a cache file."""


class Entry(NamedTuple):
    """What is known of one image.

    size: (height, width), None if the image cannot be read.  The others as in Annotation.
    """

    size: tuple[int, int] | None
    boxes: np.ndarray
    labels: np.ndarray
    findings: Sequence[Finding]
    crowd: np.ndarray | None = None
    area: np.ndarray | None = None

    @property
    def is_usable(self) -> bool:
        """Whether the image is one of the split: readable, and not without a usable annotation."""
        return self.size is not None and not any(f.id in LEAVES_OUT for f in self.findings)

    @property
    def is_lasting(self) -> bool:
        """Whether the entry holds until a stamp changes.

        A problem that is fixed from outside (access rights, a mount) leaves the stamps as they
        are, so what could not be read is tried again each time.
        """
        if not self.findings:
            return True
        return self.size is not None and not any(f.id == UNREADABLE for f in self.findings)


LEFT_OUT = "image-left-out"
LEAVES_OUT = (LEFT_OUT, "size-differs", "size-unrotated")
"""Findings that leave an image out of its split."""
UNREADABLE = "label-unreadable"


def cache_path(dataset: Dataset, split: str, fraction: float) -> Path | None:
    """The cache file of a scan; None if there is no cache folder."""
    sources = [os.path.abspath(source) for source in dataset.sources(split)]
    key = json.dumps(
        [VERSION, dataset.format, dataset.options, split, sources, dataset.class_names, fraction,
         dataset.hold_out],
        default=str,
    )
    try:
        return cache_folder() / "scans" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    except InputError:
        return None


def load_table(file: Path | None) -> Table:
    """The columns of a cache file, none if it cannot be read."""
    try:
        if file is None:
            return {}
        with open_regular(file) as opened, np.load(opened, allow_pickle=False) as stored:
            table = {name: stored[name] for name in stored.files}
        written = table.pop("digest").tobytes()
        return table if written == _digest(table) else {}
    except DAMAGED:
        return {}


def _digest(table: Table) -> bytes:
    """SHA-256 of all columns: a table that somebody has changed is not used."""
    digest = hashlib.sha256()
    for name, column in sorted(table.items()):
        digest.update(f"{name} {column.dtype} {column.shape} ".encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.digest()


def load_listing(table: Table, reader: Reader) -> Listing | None:
    """The images of the last scan with their stamps of now.

    None unless the format has index files, none of them has changed and every image exists.
    """
    if not reader.index_files:
        return None
    try:
        stored = parse_json(table["index"].tobytes())
        if stored["files"] != _index_stamps(reader):
            return None
        images = {path: stamp_of(path) for path in _paths(table)}
        findings = [Finding(i, s, Path(p), n, m) for i, s, p, n, m in stored["findings"]]
    except DAMAGED:
        return None
    return None if ABSENT in images.values() else Listing(images, findings)


def _index_stamps(reader: Reader) -> list[list[Any]]:
    return [[os.fspath(path), *stamp_of(path)] for path in reader.index_files]


def _paths(table: Table) -> list[str]:
    column = table["paths"]
    return [os.fsdecode(path) for path in column.tobytes().split(b"\0")] if column.size else []


def load_entries(
    table: Table, images: Sequence[str], sources: Sequence[str], stamps: np.ndarray
) -> list[Entry | None]:
    """For each image what the cache knows about it, or None.

    stamps: [n,4] int64, size and time of change of each image and of its source.
    """
    try:
        places = _places(table, images, stamps)
        findings = _load_findings(table, places, images, sources)
        return _entries(table, places, findings)
    except DAMAGED:
        return [None] * len(images)


def _places(table: Table, images: Sequence[str], stamps: np.ndarray) -> np.ndarray:
    """Row of the table for each image [n], -1 where there is none that still holds."""
    known = _paths(table)
    rows = len(known)
    shapes = (table["stamps"].shape, table["sizes"].shape, table["counts"].shape)
    total = int(table["counts"].sum())
    if shapes != ((rows, 4), (rows, 2), (rows,)) or table["counts"].min(initial=0) < 0:
        raise ValueError("columns of different lengths")
    columns = [table[name].shape for name in ("labels", "crowd", "area") if name in table]
    if table["boxes"].shape != (total, 4) or set(columns) != {(total,)}:
        raise ValueError("boxes and counts disagree")
    index = {path: row for row, path in enumerate(known)}
    places = np.array([index.get(path, -1) for path in images], np.int64)
    if rows:
        places[(table["stamps"][places] != stamps).any(axis=1)] = -1
    return places


def _load_findings(
    table: Table,
    places: np.ndarray,
    images: Sequence[str],
    sources: Sequence[str],
) -> dict[int, list[Finding]]:
    """Row of the table -> its findings."""
    numbers = {int(row): number for number, row in enumerate(places) if row >= 0}
    found: dict[int, list[Finding]] = {}
    for row, id, severity, of_source, line, message in parse_json(table["findings"].tobytes()):
        if row in numbers:
            path = Path((sources if of_source else images)[numbers[row]])
            found.setdefault(row, []).append(Finding(id, severity, path, line, message))
    return found


def _entries(
    table: Table, places: np.ndarray, findings: dict[int, list[Finding]]
) -> list[Entry | None]:
    ends = np.cumsum(table["counts"])
    starts = (ends - table["counts"]).tolist()
    stops = ends.tolist()
    sizes = table["sizes"].tolist()
    boxes = table["boxes"].astype(np.float32, copy=False)
    labels = table["labels"].astype(np.int64)
    crowd, area = table.get("crowd"), table.get("area")
    entries: list[Entry | None] = []
    for row in places.tolist():
        if row < 0:
            entries.append(None)
            continue
        part = slice(starts[row], stops[row])
        height, width = sizes[row]
        entry = Entry((height, width), boxes[part], labels[part], findings.get(row, ()))
        if crowd is not None and crowd[part].any():
            entry = entry._replace(crowd=crowd[part])
        if area is not None and np.isfinite(area[part]).all():
            entry = entry._replace(area=area[part])
        entries.append(entry)
    return entries


def save_entries(
    file: Path,
    images: Sequence[str],
    stamps: np.ndarray,
    entries: Sequence[Entry],
    reader: Reader,
    listing: Listing,
) -> None:
    """Write the lasting entries, and the list of images if it comes from index files.

    stamps: as for ``load_entries``.  A full disk or a read-only folder is no reason to stop.
    """
    rows = [number for number, entry in enumerate(entries) if entry.is_lasting]
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
        "findings": _json_column(findings),
        **_optional_columns(kept),
    }
    if reader.index_files and len(rows) == len(images) and not _has_error(listing):
        found = [(f.id, f.severity, os.fspath(f.path), f.line, f.message) for f in listing.findings]
        columns["index"] = _json_column({"files": _index_stamps(reader), "findings": found})
    columns["digest"] = np.frombuffer(_digest(columns), np.uint8)
    with contextlib.suppress(OSError):
        write_atomically(file, lambda sink: np.savez(sink, allow_pickle=False, **columns))


def _has_error(listing: Listing) -> bool:
    """Whether something of the list could not be used: it may be there the next time."""
    return any(found.severity == "error" for found in listing.findings)


def _json_column(value: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def _optional_columns(entries: Sequence[Entry]) -> Table:
    """Crowd and area of all boxes, where any image has them; an area that is not given is nan."""
    columns: Table = {}
    if any(entry.crowd is not None for entry in entries):
        parts = [np.zeros(len(e.labels), bool) if e.crowd is None else e.crowd for e in entries]
        columns["crowd"] = np.concatenate(parts)
    if any(entry.area is not None for entry in entries):
        parts = [np.full(len(e.labels), np.nan) if e.area is None else e.area for e in entries]
        columns["area"] = np.concatenate(parts).astype(np.float32)
    return columns
