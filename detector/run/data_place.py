"""Where the data of a run are, and what they were: data.json in its run folder.

``data=data.yaml`` means another file in every folder.  A run that is continued or measured later,
from wherever, therefore uses the file that it was started with, and says so where its images or
labels have changed since.  The checkpoint that is handed on holds no path.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...datasets.sets.dataset import Dataset
from ...datasets.sets.locate import DatasetError, find_yaml
from ...datasets.sets.source import DataSource, given_path
from ...files.json_text import read_json
from ..options.errors import UsageError
from .files import write_json

if TYPE_CHECKING:  # the checks before torch is loaded come through here
    from ...datasets.formats.record import Record
    from ...datasets.scan.scan import Scan

DATA = "data.json"


@dataclass(frozen=True)
class SplitFacts:
    """fingerprint: of the scan.  content: sha256 of names, sizes, boxes and labels, which copying
    the data does not change.  images: usable ones.  each: a checksum of each image in turn, of the
    same and the length of its file; 8 hexadecimal digits per image, "" in older files."""

    fingerprint: str
    content: str
    images: int
    each: str = ""


@dataclass(frozen=True)
class DataPlace:
    """data: as it was typed.  yaml: the file or folder that it meant, absolute.  splits: by name.
    images, val: the folder and the split that were typed beside it, absolute."""

    data: str
    yaml: str
    splits: dict[str, SplitFacts]
    images: str | None = None
    val: str | None = None

    def options(self, given: Collection[str]) -> dict[str, str]:
        """``data``, and ``images`` and ``val`` where they are paths, as options that mean the same
        from every folder; without those that were typed (``given``).  Raises UsageError where the
        data have gone."""
        words = {"images": self.images, "val": self.val}
        if "data" not in given:
            words["data"] = self.word()
        return {name: word for name, word in words.items() if word and name not in given}

    def word(self) -> str:
        """What ``data=`` has to be to mean the same again: the word of a built-in set, else the
        file.  Raises UsageError where the file has gone."""
        try:
            if find_yaml(self.data) == Path(self.yaml):
                return self.data
        except DatasetError:
            pass
        if not os.path.exists(self.yaml):
            raise UsageError(
                f"the data of this run were described in {self.yaml}, which does not exist any "
                "more: name the YAML with data="
            )
        return self.yaml

    def change(self, split: str, dataset: Dataset, scan: Scan) -> str | None:
        """What is different in a split since the run began, in words; None for nothing."""
        before = self.splits.get(split)
        if before is None or before.fingerprint == scan.fingerprint:
            return None
        if before.images != len(scan.records):
            return f"{split} had {before.images} images, now {len(scan.records)}"
        if before.content != content_of(dataset, scan.records):
            changed = self.changed_images(split, dataset, scan.records)
            named = f": {', '.join(changed[:3])}" if changed else ""
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            return f"{split} has other images or labels than when the run began{named}{more}"
        return None

    def changed_images(self, split: str, dataset: Dataset, records: Sequence[Record]) -> list[str]:
        """The images of a split whose name, size, labels or length in bytes is not what it was;
        none where data.json does not say, or the number of images differs."""
        before, now = self.splits[split].each, each_of(dataset, records)
        if len(before) != len(now):
            return []
        places = range(0, len(now), 8)
        return [
            inside(dataset, record)
            for record, at in zip(records, places, strict=True)
            if before[at : at + 8] != now[at : at + 8]
        ]


def without_place(known: Mapping[str, Any], split: str, scan: Scan) -> tuple[bool, bool]:
    """For a checkpoint without a data.json: whether a split certainly differs from the data that
    its header tells of (another number of images), and whether it may (another fingerprint, which
    copying the files changes too)."""
    images, fingerprint = (known.get(f"{split}_{what}") for what in ("images", "fingerprint"))
    other = fingerprint not in (None, scan.fingerprint)
    return other and images not in (None, len(scan.records)), other


def place_of(source: DataSource, dataset: Dataset, scans: Iterable[Scan]) -> DataPlace:
    """What a run that starts now has to remember."""
    data = source.data
    splits = {
        scan.split: SplitFacts(
            scan.fingerprint,
            content_of(dataset, scan.records),
            len(scan.records),
            each_of(dataset, scan.records),
        )
        for scan in scans
    }
    try:
        place = str(find_yaml(data))
    except DatasetError:  # a folder without a YAML, or an index file
        place = os.path.abspath(os.path.expanduser(data))
    images = None if source.images is None else str(given_path(source.images))
    val = None if source.val is None or source.held_out is not None else str(given_path(source.val))
    return DataPlace(data, place, splits, images, val)


def content_of(dataset: Dataset, records: Iterable[Record]) -> str:
    """A sha256 of what is trained on: names under the root, sizes, boxes and labels."""
    digest = hashlib.sha256(json.dumps(dataset.class_names).encode())
    for record in records:
        digest.update(_bytes_of(dataset, record))
    return digest.hexdigest()


def each_of(dataset: Dataset, records: Iterable[Record]) -> str:
    """The CRC-32 of each image, as SplitFacts has them."""
    known = ((_bytes_of(dataset, record), str(_length(record.path))) for record in records)
    return "".join(f"{zlib.crc32(length.encode(), zlib.crc32(own)):08x}" for own, length in known)


def inside(dataset: Dataset, record: Record) -> str:
    """The path of an image under the root of its data set."""
    return os.path.relpath(record.path, dataset.root)


def _bytes_of(dataset: Dataset, record: Record) -> bytes:
    named = os.fsencode(f"{inside(dataset, record)}\0{record.size}\0")
    return named + record.boxes.astype("<f4").tobytes() + record.labels.astype("<i8").tobytes()


def _length(path: Path) -> int:
    """Bytes of a file; -1 where it is gone."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def write_place(folder: Path, place: DataPlace) -> None:
    """Write data.json."""
    write_json(folder / DATA, asdict(place))


def read_place(folder: Path) -> DataPlace | None:
    """The data.json of a run folder; None where there is none that can be read."""
    try:
        values: Any = read_json(folder / DATA)
        splits = {str(name): SplitFacts(**facts) for name, facts in values["splits"].items()}
        beside = {name: values.get(name) for name in ("images", "val")}
        place = DataPlace(values["data"], values["yaml"], splits, **beside)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    words = (place.data, place.yaml, place.images or "", place.val or "")
    usable = all(isinstance(word, str) and "\0" not in word for word in words)
    return place if usable else None
