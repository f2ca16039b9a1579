"""Which image files a split consists of: folders and list files to sorted absolute paths.

A folder is searched with all its subfolders; a list file (.txt) names one image a line, relative
to the list's own folder or else to the data set's root.  Files are told by their suffix; hidden
files are passed over.  What is listed and cannot be used is a Finding; no file is opened here
except lists.  Left out: wildcards, addresses on the network, archives.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..formats.record import Finding
from .description import read_description
from .locate import Dataset, find_yaml, locate

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
NOT_DATA = "__MACOSX"
"""The folder that one operating system adds to archives, full of files that only look like data."""

Stamp = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds: the same stamp, the same content."""


@dataclass
class Listing:
    """images: path -> stamp, sorted by path.  others: suffix -> number of files not used."""

    images: dict[str, Stamp] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def list_images(dataset: Dataset, split: str) -> Listing:
    """The image files of a split; raises DatasetError where the data set has no such split."""
    listing = Listing()
    sources = dataset.sources(split)
    for source in sources:
        if source.is_dir():
            _add_folder(listing, str(source))
        else:
            _add_list(listing, source, dataset.root)
    if listing.others:
        _report_others(listing, sources[0])
    listing.images = dict(sorted(listing.images.items()))
    return listing


def count_images(data: str, split: str) -> int | None:
    """Images of a split of ``data`` where they are on disk, or as many as would be drawn; None
    where they would have to be fetched.  Nothing is written.  Raises DatasetError."""
    description = read_description(find_yaml(data), _silent)
    if description.shapes is not None:
        return description.shapes.get(split, 0)
    found = locate(description, _silent)
    return len(list_images(found, split).images) if found else None


def _silent(text: str) -> None:
    """Remarks are made when the data set is loaded."""


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
    except OSError as error:  # a link that leads nowhere
        path, message = Path(entry.path), f"cannot be read: {error.strerror}"
        listing.findings.append(Finding("image-missing", "error", path, 0, message))
        return
    _add_image(listing, entry.path, status, entry.path, 0)


def _add_list(listing: Listing, source: Path, root: Path) -> None:
    """Add the images that the list file ``source`` names."""
    try:
        lines = source.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
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
        for base in bases:
            path = os.path.normpath(os.path.join(base, name))
            if (status := _file_status(path)) is not None:
                _add_image(listing, path, status, source, number)
                break
        else:
            message = f"{name!r} is not there; looked under {' and '.join(bases)}"
            listing.findings.append(Finding("image-missing", "error", source, number, message))


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
    if suffix != ".txt":  # label files beside their images
        listing.others[suffix or "none"] += 1


def _report_others(listing: Listing, where: Path) -> None:
    counts = ", ".join(f"{suffix} {count}" for suffix, count in listing.others.most_common(5))
    message = (
        f"{listing.others.total()} files are not used because of their suffix ({counts}); "
        f"images end in {' '.join(IMAGE_SUFFIXES)}"
    )
    listing.findings.append(Finding("file-suffix", "warning", where, 0, message))
