"""A split read into Records: every image's size and boxes, and everything that is wrong with them.

The images are listed (listing.py), what the cache knows is taken (scan_cache.py), the others are
read by threads: the header of the image, and its label file.  Pixels are not decoded, except for
formats whose header is not understood.  Nothing is printed and nothing of the user's is written;
an image that cannot be used is left out and becomes a Finding.  A split without any image, and a
train split without any box, are errors.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..formats.record import Finding, Record
from ..formats.yolo import label_folder, read_labels
from ..images.image import ImageError, image_size
from ..sets.listing import IMAGE_SUFFIXES, Listing, Stamp, list_images
from ..sets.locate import Dataset, DatasetError
from .cache import Entry, cache_path, is_lasting, load_entries, save_entries

Progress = Callable[[int, int], None]

THREADS = 8
CHUNK = 200
"""Images a thread reads between two reports of progress."""
ABSENT: Stamp = (-1, -1)


class EmptyDatasetError(DatasetError):
    """A split in which there is nothing to work with; the message says what was looked for."""

    exit_code = 1


@dataclass(frozen=True)
class Scan:
    """A split as found on disk.

    records: the usable images, sorted by path.  fingerprint: a sha256 that changes when a class
    name, a file, its size or its time of change does, and not when the folder moves.
    num_images: images looked at, usable or not.  unlabelled: those without a label file.
    """

    split: str
    records: list[Record]
    findings: list[Finding]
    fingerprint: str
    num_images: int
    unlabelled: list[Path]


@contextlib.contextmanager
def collector_rests() -> Iterator[None]:
    """Python's garbage collector is off while the context lasts: of a million objects that are all
    kept it would go through all, again and again, for a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@collector_rests()
def scan_split(
    dataset: Dataset,
    split: str,
    *,
    fraction: float = 1.0,
    on_progress: Progress | None = None,
    cache: bool = True,
) -> Scan:
    """Read a split.

    fraction: share of the images to use, evenly spread over the sorted list.  on_progress: called
    with (images done, images).  cache: use and write the cache folder.  Raises DatasetError for a
    split or fraction that does not exist and EmptyDatasetError for one with nothing in it.
    """
    if not 0 < fraction <= 1:
        raise DatasetError(f"fraction is {fraction:g}; expected more than 0 and at most 1")
    listing = list_images(dataset, split)
    if not listing.images:
        raise EmptyDatasetError(_no_image(dataset, split, listing))
    images = spread(list(listing.images), fraction)
    label_files, label_stamps = _label_files(images)
    stamps = np.array(
        [listing.images[path] + stamp for path, stamp in zip(images, label_stamps, strict=True)],
        np.int64,
    )  # [n,4]
    file = cache_path(dataset, split, fraction) if cache else None
    known = load_entries(file, images, label_files, stamps) if file else [None] * len(images)
    entries = _complete(known, images, label_files, dataset.num_classes, on_progress)
    fresh = [entry for old, entry in zip(known, entries, strict=True) if old is None]
    if file and any(map(is_lasting, fresh)):
        save_entries(file, images, stamps, entries)
    scan = Scan(
        split=split,
        records=_records(images, entries),
        findings=listing.findings + [found for entry in entries for found in entry.findings],
        fingerprint=_fingerprint(dataset, images, stamps),
        num_images=len(images),
        unlabelled=[
            Path(image)
            for image, stamp in zip(images, label_stamps, strict=True)
            if stamp == ABSENT
        ],
    )
    _refuse_empty(dataset, scan, label_files[0])
    return scan


def spread(items: list[str], fraction: float) -> list[str]:
    """A share of a list, at least one item, at even distances."""
    count = max(1, round(len(items) * fraction))
    return [items[number * len(items) // count] for number in range(count)]


def _label_files(images: Sequence[str]) -> tuple[list[str], list[Stamp]]:
    """For each image the path of its label file and the stamp of that file, ABSENT if none."""
    folders: dict[str, str] = {}
    files, stamps = [], []
    for image in images:
        folder, _, name = image.rpartition(os.sep)  # plain text work: this runs for every image
        if folder not in folders:
            folders[folder] = label_folder(folder)
        file = f"{folders[folder]}{os.sep}{name.rpartition('.')[0]}.txt"
        files.append(file)
        try:
            status = os.stat(file)
            stamps.append((status.st_size, status.st_mtime_ns))
        except OSError:
            stamps.append(ABSENT)
    return files, stamps


def _complete(
    known: Sequence[Entry | None],
    images: Sequence[str],
    label_files: Sequence[str],
    num_classes: int,
    on_progress: Progress | None,
) -> list[Entry]:
    """The known entries, and the others read now."""
    entries = list(known)
    missing = [number for number, entry in enumerate(known) if entry is None]
    chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
    done, total = len(images) - len(missing), len(images)

    def read(chunk: list[int]) -> list[Entry]:
        return [_read(images[number], label_files[number], num_classes) for number in chunk]

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


def _read(image: str, label_file: str, num_classes: int) -> Entry:
    path = Path(image)
    try:
        size = image_size(path)
    except ImageError as error:
        message = str(error).removeprefix(f"{path}: ")
        found = Finding("image-unreadable", "error", path, 0, message)
        return Entry(None, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), [found])
    return Entry(size, *read_labels(Path(label_file), size=size, num_classes=num_classes))


def _records(images: Sequence[str], entries: Sequence[Entry]) -> list[Record]:
    return [
        Record(Path(image), entry.size, entry.boxes, entry.labels)
        for image, entry in zip(images, entries, strict=True)
        if entry.size is not None
    ]


def _fingerprint(dataset: Dataset, images: Sequence[str], stamps: np.ndarray) -> str:
    root = str(dataset.root) + os.sep
    inside = [
        image[len(root) :] if image.startswith(root) else os.path.basename(image)
        for image in images
    ]
    digest = hashlib.sha256(json.dumps(dataset.class_names).encode())
    digest.update(os.fsencode("\0".join(inside)))
    digest.update(stamps.astype("<i8").tobytes())
    return digest.hexdigest()


def _no_image(dataset: Dataset, split: str, listing: Listing) -> str:
    where = ", ".join(str(source) for source in dataset.sources(split))
    first = f"; first finding: {_told(listing.findings[0])}" if listing.findings else ""
    suffixes = " ".join(IMAGE_SUFFIXES)
    return f"{dataset.name}, {split}: no image found; looked for {suffixes} in {where}{first}"


def _refuse_empty(dataset: Dataset, scan: Scan, first_label_file: str) -> None:
    """Raise where nothing can be used; add a finding where a split cannot measure anything."""
    where = f"{dataset.name}, {scan.split}"
    errors = [found for found in scan.findings if found.severity == "error"]
    first = f"; first finding: {_told(errors[0])}" if errors else ""
    if not scan.records:
        raise EmptyDatasetError(f"{where}: none of {scan.num_images} images can be read{first}")
    if any(len(record.labels) for record in scan.records):
        return
    there = scan.num_images - len(scan.unlabelled)
    message = (
        f"none of {scan.num_images} images has a usable box; {there} have a label file, "
        f"the first is expected at {first_label_file}"
    )
    if scan.split == "train":
        raise EmptyDatasetError(f"{where}: {message}{first}")
    path = dataset.sources(scan.split)[0]
    scan.findings.append(Finding("split-without-box", "warning", path, 0, message))


def summarise_findings(scan: Scan) -> list[str]:
    """One line a kind of finding, with the first example."""
    kinds: dict[str, list[Finding]] = {}
    for finding in scan.findings:
        kinds.setdefault(finding.id, []).append(finding)
    return [
        f"{len(found)} x {kind}, first: {_told(found[0])} (det data check lists all)"
        for kind, found in kinds.items()
    ]


def _told(finding: Finding) -> str:
    line = f":{finding.line}" if finding.line else ""
    return f"{finding.path}{line}: {finding.message}"
