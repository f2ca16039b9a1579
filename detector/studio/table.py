"""A data set as columns: one row per image and one per box, so that a filter over 100,000 images is
a few operations on arrays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...datasets.formats.record import Record
from ...datasets.scan.scan import Scan
from ...datasets.sets.dataset import Dataset
from ...datasets.sets.finding import Finding
from ...datasets.sets.listing import IMAGE_SUFFIXES

SHOWN_FINDINGS = 20
"""Findings of one image that are shown."""


@dataclass(frozen=True)
class Table:
    """n images, M boxes.

    records: one per image, of size (0, 0) where the image cannot be used.  split [n]: place in
    ``splits``.  unlabeled, usable [n] bool.  boxes [M,4] xyxy pixels, labels [M], image [M]: the
    image of each box.  findings: about each image.  general: about the data set as a whole.
    groups [n]: images with the same number show the same picture; None: not looked for.
    """

    name: str
    class_names: tuple[str, ...]
    splits: tuple[str, ...]
    records: Sequence[Record]
    split: np.ndarray
    unlabeled: np.ndarray
    usable: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    image: np.ndarray
    findings: Mapping[int, Sequence[Finding]]
    general: Sequence[Finding]
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def box_counts(self) -> np.ndarray:
        """Boxes of each image [n]."""
        return np.bincount(self.image, minlength=len(self))

    @cached_property
    def first_box(self) -> np.ndarray:
        """Number of the first box of each image, and the number of boxes at the end [n+1]."""
        return np.concatenate([[0], np.cumsum(self.box_counts)])

    @cached_property
    def images_with(self) -> dict[str, np.ndarray]:
        """Finding -> the images [k] that it is about."""
        found: dict[str, list[int]] = defaultdict(list)
        for number, about in self.findings.items():
            for id in dict.fromkeys(finding.id for finding in about):
                found[id].append(number)
        return {id: np.array(sorted(numbers), np.int64) for id, numbers in sorted(found.items())}

    @cached_property
    def severity(self) -> dict[str, str]:
        """Finding -> its severity."""
        every = [*self.general, *(one for about in self.findings.values() for one in about)]
        return {finding.id: finding.severity for finding in every}

    @cached_property
    def repeated(self) -> np.ndarray:
        """Whether each image [n] shows the picture of another one; needs ``groups``."""
        if self.groups is None:
            return np.zeros(len(self), bool)
        return np.bincount(self.groups, minlength=len(self))[self.groups] > 1

    @cached_property
    def leaked(self) -> np.ndarray:
        """Whether each image [n] shows a picture that another split has too; needs ``groups``."""
        if self.groups is None:
            return np.zeros(len(self), bool)
        pairs = np.unique(np.stack([self.groups, self.split]), axis=1)
        return np.bincount(pairs[0], minlength=len(self))[self.groups] > 1


def make_table(
    dataset: Dataset, scans: Sequence[Scan], findings: Iterable[Finding] | None = None
) -> Table:
    """The table of scanned splits.  findings: everything that is known; None: what the scans say.

    An image that a finding names and that no record has gets a row of its own, without boxes.
    """
    records: list[Record] = []
    split: list[int] = []
    unlabeled: list[bool] = []
    places = _Places()
    for number, scan in enumerate(scans):
        without = set(scan.unlabeled)
        for record in scan.records:
            places.add(record.path, number, len(records))
            unlabeled.append(record.path in without)
            records.append(record)
            split.append(number)
    usable = len(records)
    about: dict[int, list[Finding]] = defaultdict(list)
    general = []
    for number, finding in _with_split(scans, findings):
        rows = places.rows(finding, number)
        if not rows and finding.path.suffix.lower() in IMAGE_SUFFIXES and finding.path.is_file():
            rows = [len(records)]
            places.add(finding.path, number, rows[0])
            records.append(_empty(finding.path))
            split.append(max(number, 0))
            unlabeled.append(False)
        if not rows:
            general.append(finding)
        for row in rows:
            about[row].append(finding)
    counts = np.array([len(record.labels) for record in records], np.int64)
    return Table(
        name=dataset.name,
        class_names=dataset.class_names,
        splits=tuple(scan.split for scan in scans),
        records=records,
        split=np.array(split, np.int64),
        unlabeled=np.array(unlabeled, bool),
        usable=np.arange(len(records)) < usable,
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *(r.boxes for r in records)]),
        labels=np.concatenate([np.zeros(0, np.int64), *(r.labels for r in records)]),
        image=np.repeat(np.arange(len(records)), counts),
        findings=dict(about),
        general=general,
    )


class _Places:
    """Where the images are by path, and by the name of their label file."""

    def __init__(self) -> None:
        self._paths: dict[Path, list[int]] = defaultdict(list)
        self._stems: dict[tuple[int, str], list[int]] = defaultdict(list)

    def add(self, path: Path, split: int, row: int) -> None:
        self._paths[path].append(row)
        self._stems[split, path.stem].append(row)

    def rows(self, finding: Finding, split: int) -> list[int]:
        """The images that a finding is about.  split: where it was found, -1 where not known."""
        if finding.path in self._paths:
            return self._paths[finding.path]
        if finding.path.suffix.lower() not in (".txt", ".xml"):
            return []
        return self._stems.get((split, finding.path.stem), [])


def _with_split(
    scans: Sequence[Scan], findings: Iterable[Finding] | None
) -> list[tuple[int, Finding]]:
    """Findings with the number of the scan that made them; -1 for those of the doctor."""
    found = [(number, one) for number, scan in enumerate(scans) for one in scan.findings]
    if findings is None:
        return found
    known = {one for _, one in found}
    return found + [(-1, one) for one in findings if one not in known]


def _empty(path: Path) -> Record:
    return Record(path, (0, 0), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
