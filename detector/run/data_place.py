"""Where the data of a run are, and what they were: data.json in its run folder.

``data=data.yaml`` means another file in every folder.  A run that is continued or measured later,
from wherever, therefore uses the file that it was started with, and says so where its images or
labels have changed since.  The checkpoint that is handed on holds no path.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...datasets.sets.dataset import Dataset
from ...datasets.sets.locate import DatasetError, find_yaml
from ..options.errors import UsageError
from .files import write_json

if TYPE_CHECKING:  # the checks before torch is loaded come through here
    from ...datasets.formats.record import Record
    from ...datasets.scan.scan import Scan

DATA = "data.json"


@dataclass(frozen=True)
class SplitFacts:
    """fingerprint: of the scan.  content: sha256 of names, sizes, boxes and labels, which copying
    the data does not change.  images: usable ones."""

    fingerprint: str
    content: str
    images: int


@dataclass(frozen=True)
class DataPlace:
    """data: as it was typed.  yaml: the file or folder that it meant, absolute.  splits: by
    name."""

    data: str
    yaml: str
    splits: dict[str, SplitFacts]

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
            return f"{split} has other images or labels than when the run began"
        return None


def without_place(known: Mapping[str, Any], split: str, scan: Scan) -> tuple[bool, bool]:
    """For a checkpoint without a data.json: whether a split certainly differs from the data that
    its header tells of (another number of images), and whether it may (another fingerprint, which
    copying the files changes too)."""
    images, fingerprint = (known.get(f"{split}_{what}") for what in ("images", "fingerprint"))
    other = fingerprint not in (None, scan.fingerprint)
    return other and images not in (None, len(scan.records)), other


def place_of(data: str, dataset: Dataset, scans: Iterable[Scan]) -> DataPlace:
    """What a run that starts now has to remember."""
    splits = {
        scan.split: SplitFacts(
            scan.fingerprint, content_of(dataset, scan.records), len(scan.records)
        )
        for scan in scans
    }
    try:
        place = str(find_yaml(data))
    except DatasetError:  # a folder without a YAML, or an index file
        place = os.path.abspath(os.path.expanduser(data))
    return DataPlace(data, place, splits)


def content_of(dataset: Dataset, records: Iterable[Record]) -> str:
    """A sha256 of what is trained on: names under the root, sizes, boxes and labels."""
    digest = hashlib.sha256(json.dumps(dataset.class_names).encode())
    for record in records:
        inside = os.path.relpath(record.path, dataset.root)
        digest.update(os.fsencode(f"{inside}\0{record.size}\0"))
        digest.update(record.boxes.astype("<f4").tobytes())
        digest.update(record.labels.astype("<i8").tobytes())
    return digest.hexdigest()


def write_place(folder: Path, place: DataPlace) -> None:
    """Write data.json."""
    write_json(folder / DATA, asdict(place))


def read_place(folder: Path) -> DataPlace | None:
    """The data.json of a run folder; None where there is none that can be read."""
    try:
        values: Any = json.loads((folder / DATA).read_text(encoding="utf-8"))
        splits = {str(name): SplitFacts(**facts) for name, facts in values["splits"].items()}
        place = DataPlace(values["data"], values["yaml"], splits)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    texts = isinstance(place.data, str) and isinstance(place.yaml, str)
    return place if texts and "\0" not in place.data + place.yaml else None
