"""Which image files a split consists of: folders and list files to sorted absolute paths.

A source is a folder, which is searched with all its subfolders; a list file (.txt) with one image
per line, relative to the list's own folder or else to the data set's root; or an image.  Files are
recognized by their suffix; hidden files are skipped.  What is listed and cannot be used is a
Finding; no file is opened here except lists.  Not supported: wildcards, web addresses, archives.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ...files.counted import counted
from ...files.regular import read_regular
from .dataset import Dataset
from .finding import Finding

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
NOT_DATA = "__MACOSX"
"""A folder that macOS adds to archives, full of files that only look like data."""

Stamp = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds: the same stamp, the same content."""


@dataclass
class Listing:
    """images: path -> stamp, sorted by path.  others: suffix -> number of files not used.
    labels: suffix of annotations, which may lie beside images."""

    images: dict[str, Stamp] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    labels: str = ".txt"


def list_images(dataset: Dataset, split: str, labels: str = ".txt") -> Listing:
    """The image files of a split; raises DatasetError if the data set has no such split."""
    listing = Listing(labels=labels)
    sources = dataset.sources(split)
    for source in sources:
        if source.is_dir():
            _add_folder(listing, str(source))
        elif source.name.lower().endswith(IMAGE_SUFFIXES):
            _add_image(listing, str(source), os.stat(source), source, 0)
        else:
            prefix = str(dataset.options.get("list_prefix", ""))
            _add_list(listing, source, dataset.root, prefix)
    if listing.others:
        _report_others(listing, sources[0])
    listing.images = dict(sorted(listing.images.items()))
    return listing


def is_image_source(path: Path) -> bool:
    """Whether a split may name ``path`` in any format: a folder, a list of images or an image."""
    return path.is_dir() or path.name.lower().endswith((".txt", *IMAGE_SUFFIXES))


def _add_folder(listing: Listing, folder: str) -> None:
    waiting, seen = [folder], set()
    while waiting:
        here = waiting.pop()
        try:
            identity = os.stat(here)
            if (identity.st_dev, identity.st_ino) in seen:  # a link back up would never end
                continue
            seen.add((identity.st_dev, identity.st_ino))
            with os.scandir(here) as entries:
                inside = [entry for entry in entries if entry.name[0] != "."]
        except OSError as error:
            message = f"the folder cannot be read: {error.strerror}"
            listing.findings.append(Finding("folder-unreadable", "error", Path(here), 0, message))
            continue
        for entry in inside:
            if not entry.is_dir():
                _add_file(listing, entry)
            elif entry.name != NOT_DATA:
                waiting.append(entry.path)


def _add_file(listing: Listing, entry: os.DirEntry[str]) -> None:
    if not entry.name.lower().endswith(IMAGE_SUFFIXES):
        _count_other(listing, entry.name)
        return
    try:
        status = entry.stat()
    except OSError as error:  # a broken link
        path, message = Path(entry.path), f"cannot be read: {error.strerror}"
        listing.findings.append(Finding("image-missing", "error", path, 0, message))
        return
    if not stat.S_ISREG(status.st_mode):
        message = "is a pipe, device or socket, not an image file; not opened"
        listing.findings.append(
            Finding("image-not-a-file", "error", Path(entry.path), 0, message)
        )
        return
    _add_image(listing, entry.path, status, entry.path, 0)


def _add_list(listing: Listing, source: Path, root: Path, prefix: str = "") -> None:
    """Add the images that the list file ``source`` names.  prefix: a folder in front of each name
    that is known not to exist."""
    try:
        lines = read_regular(source).removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        message = f"the list cannot be read: {error.strerror}"
        listing.findings.append(Finding("list-unreadable", "error", source, 0, message))
        return
    bases = dict.fromkeys((str(source.parent), str(root)))
    for number, line in enumerate(lines, start=1):
        name = os.fsdecode(line.strip())
        if not name:
            continue
        if not name.lower().endswith(IMAGE_SUFFIXES):
            _count_other(listing, name)
            continue
        for spelling, path in _candidates(name, bases):
            if (status := _file_status(path)) is None:
                continue
            if spelling not in (name, name.removeprefix(prefix)):
                message = f"{name!r} does not exist; {spelling!r} does and is used"
                listing.findings.append(Finding("image-path", "warning", source, number, message))
            _add_image(listing, path, status, source, number)
            break
        else:
            message = f"{name!r} does not exist; looked under {' and '.join(bases)}"
            listing.findings.append(Finding("image-missing", "error", source, number, message))


def _candidates(name: str, bases: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Ways to read a line of a list and the path of each, the line as it is first.

    Some tools write ``data/`` in front of each path, a folder that exists only in their archive,
    and those of Windows write backslashes.
    """
    slashes = name.replace("\\", "/")
    for spelling in dict.fromkeys((name, slashes, slashes.removeprefix("data/"))):
        for base in bases:
            yield spelling, os.path.normpath(os.path.join(base, spelling))


def _file_status(path: str) -> os.stat_result | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _add_image(
    listing: Listing, path: str, status: os.stat_result, where: str | Path, line: int
) -> None:
    if path in listing.images:
        message = f"{path} is listed more than once; used once"
        finding = Finding("image-listed-twice", "warning", Path(where), line, message)
        listing.findings.append(finding)
    listing.images[path] = (status.st_size, status.st_mtime_ns)


def _count_other(listing: Listing, name: str) -> None:
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in (".txt", listing.labels):
        listing.others[suffix or "none"] += 1


def _report_others(listing: Listing, where: Path) -> None:
    counts = ", ".join(f"{suffix} {count}" for suffix, count in listing.others.most_common(5))
    message = (
        f"not used because of their suffix: {counted(listing.others.total(), 'file')} ({counts}); "
        f"images end in {' '.join(IMAGE_SUFFIXES)}"
    )
    listing.findings.append(Finding("file-suffix", "warning", where, 0, message))
