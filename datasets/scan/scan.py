"""A split read into Records: every image's size and boxes, and everything that is wrong with them.

The reader of the label format lists the images, what the cache knows is taken from it, and the
others are read by threads: the header of the image, and its annotation.  Pixels are not decoded,
except for image formats whose header is not understood.  Nothing is printed, and nothing is written
but the cache.  An image that cannot be used is left out and becomes a Finding; so is an image whose
annotation has errors and no usable box, because it would be trained as a background.  A split
without any image, and a train split without any box, are errors.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from ...files.counted import counted
from ...files.text import one_line
from ..formats.reader import ABSENT, Reader, open_split
from ..formats.record import Record
from ..images.image import ImageError, image_size
from ..sets.dataset import Dataset, DatasetError
from ..sets.finding import Finding
from ..sets.hold_out import part_of
from ..sets.listing import IMAGE_SUFFIXES, Listing, Stamp
from .cache import (
    LEAVES_OUT,
    LEFT_OUT,
    Entry,
    cache_path,
    load_entries,
    load_listing,
    load_table,
    save_entries,
)
from .folds import held_by_fold
from .misplaced import misplaced, no_images

ItemT = TypeVar("ItemT")
Progress = Callable[[int, int], None]

THREADS = 8
MOST_ASKED = 1000
"""Images without an annotation for which one is looked for elsewhere."""
CHUNK = 200
"""Images that a thread reads between two reports of progress."""


class EmptyDatasetError(DatasetError):
    """A split without any usable image; the message says what was expected.

    scan: what was found of it, None where there is no image.
    """

    exit_code = 1

    def __init__(self, message: str, scan: Scan | None = None) -> None:
        super().__init__(message)
        self.scan = scan


class WrongLayoutError(DatasetError):
    """A split that can be read, but is laid out wrongly: training on it would be wrong."""

    exit_code = 1


@dataclass(frozen=True)
class Scan:
    """A split as found on disk.

    records: the usable images, sorted by path.  fingerprint: a sha256 that changes when a class
    name, a file, its size or its time of change does, and not when the folder moves.
    num_images: images looked at, usable or not.  unlabeled: those without an annotation.
    """

    split: str
    records: list[Record]
    findings: list[Finding]
    fingerprint: str
    num_images: int
    unlabeled: list[Path]


@contextlib.contextmanager
def garbage_collection_off() -> Iterator[None]:
    """Python's garbage collector is off inside: it would search the million objects of a scan, all
    of which are kept, again and again, for a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@garbage_collection_off()
def scan_split(
    dataset: Dataset,
    split: str,
    *,
    fraction: float = 1.0,
    on_progress: Progress | None = None,
    cache: bool = True,
    strict: bool = True,
) -> Scan:
    """Read a split.

    fraction: share of the images to use, evenly spread over the sorted list.  on_progress: called
    with (images done, images).  cache: use and write the cache folder.  strict: refuse labels that
    are laid out wrongly.  Raises DatasetError for a split or fraction that does not exist,
    EmptyDatasetError for one with nothing in it and WrongLayoutError.
    """
    if not 0 < fraction <= 1:
        raise DatasetError(f"fraction is {fraction:g}; expected more than 0 and at most 1")
    if dataset.hold_out and dataset.hold_out.folds and split in ("train", "val"):
        whole = scan_split(
            replace(dataset, hold_out=None), "train", on_progress=on_progress, cache=cache,
            strict=strict,
        )  # fmt: skip
        return _fold(dataset, whole, split, fraction)
    renamed, dataset = dataset, dataset.as_in_files()
    reader = open_split(dataset, "train" if dataset.hold_out and split == "val" else split)
    file = cache_path(dataset, split, fraction) if cache else None
    table = load_table(file)
    listing = load_listing(table, reader)
    if listing is None:
        listing = reader.list_images()
        if dataset.hold_out and split in ("train", "val"):
            listing.images = part_of(dataset.hold_out, listing.images, split, dataset.root)
        if fraction < 1 and listing.images:
            chosen = spread(list(listing.images), fraction)
            listing.images = {path: listing.images[path] for path in chosen}
    if not listing.images:
        raise EmptyDatasetError(_no_image(dataset, split, listing))
    images = list(listing.images)
    sources, source_stamps = reader.sources(images)
    both = zip(listing.images.values(), source_stamps, strict=True)
    stamps = np.array([image + source for image, source in both], np.int64)  # [n,4]
    known = load_entries(table, images, sources, stamps)
    entries = _complete(known, images, sources, reader, on_progress)
    if file and any(e.is_lasting for e, old in zip(entries, known, strict=True) if old is None):
        save_entries(file, images, stamps, entries, reader, listing)
    pairs = list(zip(images, source_stamps, strict=True))
    wrong = _wrong_layout(dataset, reader, images, sources, source_stamps, entries)
    records = _records(images, entries)
    if renamed.renumbering:
        numbers = np.array(renamed.renumbering, np.int64)
        records = [record.renumbered(numbers) for record in records]
    scan = Scan(
        split=split,
        records=records,
        findings=[*wrong, *listing.findings, *(f for entry in entries for f in entry.findings)],
        fingerprint=_fingerprint(renamed, images, stamps),
        num_images=len(images),
        unlabeled=[Path(image) for image, stamp in pairs if stamp == ABSENT],
    )
    _refuse_empty(dataset, scan, sources[0])
    if wrong and strict:
        go_on = "allow=errors uses what can be read all the same"
        raise WrongLayoutError(f"{dataset.name}, {split}: {wrong[0].message} ({go_on})")
    return scan


def _fold(dataset: Dataset, whole: Scan, split: str, fraction: float) -> Scan:
    """The part of train that a fold trains or validates on.  whole: the scan of all of train; its
    findings are those of the training part."""
    assert dataset.hold_out is not None
    held = held_by_fold(whole.records, dataset.num_classes, dataset.hold_out, whole.fingerprint)
    pairs = zip(whole.records, held, strict=True)
    records = [record for record, out in pairs if out == (split == "val")]
    if fraction < 1:
        records = spread(records, fraction)
    paths = {record.path for record in records}
    key = f"{whole.fingerprint} {dataset.hold_out} {split} {fraction}"
    return replace(
        whole,
        split=split,
        records=records,
        findings=whole.findings if split == "train" else [],
        fingerprint=hashlib.sha256(key.encode()).hexdigest(),
        num_images=len(records),
        unlabeled=[path for path in whole.unlabeled if path in paths],
    )


def _wrong_layout(
    dataset: Dataset,
    reader: Reader,
    images: Sequence[str],
    sources: Sequence[str],
    stamps: Sequence[Stamp],
    entries: Sequence[Entry],
) -> list[Finding]:
    """At most one finding: labels that lie elsewhere, or that all have the same mistake."""
    absent = [number for number, stamp in enumerate(stamps) if stamp == ABSENT]
    if len(absent) > len(images) / 2:
        some = absent[:: -(-len(absent) // MOST_ASKED)]
        found = misplaced(dataset, reader, [images[n] for n in some], [sources[n] for n in some])
        if found is not None:
            return [found]
    flawed = {
        source: {found.id for found in entry.findings}
        for source, entry in zip(sources, entries, strict=True)
        if entry.findings
    }
    if not flawed:
        return []
    labels = {label for entry in entries for label in entry.labels.tolist()}
    found = reader.shared_mistake(flawed, len(images) - len(absent), labels)
    return [found] if found is not None else []


def spread(items: list[ItemT], fraction: float) -> list[ItemT]:
    """A share of a list, at least one item, at even distances."""
    count = max(1, round(len(items) * fraction))
    return [items[number * len(items) // count] for number in range(count)]


def _complete(
    known: Sequence[Entry | None],
    images: Sequence[str],
    sources: Sequence[str],
    reader: Reader,
    on_progress: Progress | None,
) -> list[Entry]:
    """The known entries, and the others read now."""
    entries = list(known)
    missing = [number for number, entry in enumerate(known) if entry is None]
    chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
    done, total = len(images) - len(missing), len(images)

    def read(chunk: list[int]) -> list[Entry]:
        return [_read(reader, images[number], sources[number]) for number in chunk]

    pool = ThreadPoolExecutor(THREADS)
    try:
        for chunk, results in zip(chunks, pool.map(read, chunks), strict=True):
            for number, entry in zip(chunk, results, strict=True):
                entries[number] = entry
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, total)
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C must not wait for a whole data set
    return [entry for entry in entries if entry is not None]


def _read(reader: Reader, image: str, source: str) -> Entry:
    path = Path(image)
    try:
        size = image_size(path)
    except ImageError as error:
        message = str(error).removeprefix(one_line(f"{path}: "))
        found = Finding("image-unreadable", "error", path, 0, message)
        return Entry(None, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), [found])
    annotation = reader.read(image, source, size)
    entry = Entry(size, *annotation)
    errors = sum(found.severity == "error" for found in entry.findings)
    if not errors or len(entry.labels) or any(f.id in LEAVES_OUT for f in entry.findings):
        return entry
    message = (
        f"left out: no usable box and {counted(errors, 'error')}; fix the label file, or empty it "
        "if the image shows no object"
    )
    left_out = Finding(LEFT_OUT, "error", path, 0, message)
    return entry._replace(findings=[*entry.findings, left_out])


def _records(images: Sequence[str], entries: Sequence[Entry]) -> list[Record]:
    return [
        Record(Path(image), entry.size, entry.boxes, entry.labels, entry.crowd, entry.area)
        for image, entry in zip(images, entries, strict=True)
        if entry.size is not None and (not entry.findings or entry.is_usable)
    ]


def _fingerprint(dataset: Dataset, images: Sequence[str], stamps: np.ndarray) -> str:
    root = str(dataset.root) + os.sep
    inside = [
        image[len(root) :] if image.startswith(root) else os.path.basename(image)
        for image in images
    ]
    digest = hashlib.sha256(json.dumps(dataset.class_names).encode())
    if dataset.renumbering:
        digest.update(json.dumps(dataset.renumbering).encode())
    digest.update(os.fsencode("\0".join(inside)))
    digest.update(stamps.astype("<i8").tobytes())
    return digest.hexdigest()


def _no_image(dataset: Dataset, split: str, listing: Listing) -> str:
    sources = dataset.sources(split)
    where = ", ".join(map(str, sources))
    first = f"; first finding: {listing.findings[0].located()}" if listing.findings else ""
    if (reason := no_images(sources)) is not None:
        return f"{dataset.name}, {split}: {reason}"
    suffixes = " ".join(IMAGE_SUFFIXES)
    return f"{dataset.name}, {split}: no image found; looked for {suffixes} in {where}{first}"


def _refuse_empty(dataset: Dataset, scan: Scan, first_source: str) -> None:
    """Raise if nothing can be used; add a finding if a split cannot measure anything."""
    where = f"{dataset.name}, {scan.split}"
    errors = [found for found in scan.findings if found.severity == "error"]
    if errors and errors[0].id.startswith("wrong-"):
        where += f": {errors.pop(0).message}"
    first = f"; first finding: {errors[0].located()}" if errors else ""
    if not scan.records:
        images = counted(scan.num_images, "image")
        message = f"{where}: no usable image ({images} looked at){first}"
        raise EmptyDatasetError(message, scan)
    if any(len(record.labels) for record in scan.records):
        return
    there = scan.num_images - len(scan.unlabeled)
    message = (
        f"no usable box in {counted(scan.num_images, 'image')}; label files found: {there}, "
        f"the first is expected at {first_source}"
    )
    if scan.split == "train":
        raise EmptyDatasetError(f"{where}: {message}{first}", scan)
    path = dataset.sources(scan.split)[0]
    scan.findings.append(Finding("split-without-box", "warning", path, 0, message))


def summarize_findings(scan: Scan) -> list[str]:
    """One line per kind of finding, with the first example."""
    kinds: dict[str, list[Finding]] = {}
    for finding in scan.findings:
        kinds.setdefault(finding.id, []).append(finding)
    return [
        f"{len(found)} x {kind}, first: {found[0].located()} (det data check lists all)"
        for kind, found in kinds.items()
    ]
