"""A data set as columns: one row per image and one per box, so that a filter over 100,000 images is
a few operations on arrays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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


Placed = tuple[int, Finding]
"""A finding with the number of the split that it was found in, -1 where that is not known."""


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
    """The table of scanned splits.  findings: all that is known; None: what the scans say."""
    records = [record for scan in scans for record in scan.records]
    unlabeled = []
    for scan in scans:
        without = set(scan.unlabeled)
        unlabeled += [bool(without) and record.path in without for record in scan.records]
    counts = np.array([len(record.labels) for record in records], np.int64)
    table = Table(
        name=dataset.name,
        class_names=dataset.class_names,
        splits=tuple(scan.split for scan in scans),
        records=records,
        split=np.repeat(np.arange(len(scans)), [len(scan.records) for scan in scans]),
        unlabeled=np.array(unlabeled, bool),
        usable=np.ones(len(records), bool),
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *(r.boxes for r in records)]),
        labels=np.concatenate([np.zeros(0, np.int64), *(r.labels for r in records)]),
        image=np.repeat(np.arange(len(records)), counts),
        findings={},
        general=(),
    )
    return with_findings(table, with_split(scans, findings))


def with_findings(table: Table, found: Sequence[Placed]) -> Table:
    """The table with other findings.

    An image that a finding names and that no record has gets a row of its own, without boxes.
    """
    rows = _Rows(table, found)
    about: dict[int, list[Finding]] = defaultdict(list)
    general, split = [], table.split.tolist()
    records = list(table.records)
    for number, finding in found:
        numbers = rows.of(finding, number)
        if not numbers and _is_image(finding.path) and finding.path.is_file():
            numbers = rows.add(finding.path, len(records))
            records.append(_empty(finding.path))
            split.append(max(number, 0))
        if not numbers:
            general.append(finding)
        for row in numbers:
            about[row].append(finding)
    none = np.zeros(len(records) - len(table), bool)
    return replace(
        table,
        records=records,
        split=np.array(split, np.int64),
        unlabeled=np.concatenate([table.unlabeled, none]),
        usable=np.concatenate([table.usable, none]),
        findings=dict(about),
        general=general,
    )


class _Rows:
    """The rows of the images that findings are about: by path, or by the name of a label file."""

    def __init__(self, table: Table, found: Sequence[Placed]) -> None:
        self._by_path: dict[Path, list[int]] = {one.path: [] for _, one in found}
        self._by_stem: dict[tuple[int, str], list[int]] = {
            (number, one.path.stem): [] for number, one in found if _is_label(one.path)
        }
        if self._by_path:
            for row, record in enumerate(table.records):
                if record.path in self._by_path:
                    self._by_path[record.path].append(row)
        if self._by_stem:
            for row, (record, number) in enumerate(
                zip(table.records, table.split.tolist(), strict=True)
            ):
                if (number, record.path.stem) in self._by_stem:
                    self._by_stem[number, record.path.stem].append(row)

    def of(self, finding: Finding, split: int) -> list[int]:
        """The images that a finding is about.  split: where it was found, -1 where not known."""
        rows = self._by_path[finding.path]
        if rows or not _is_label(finding.path):
            return rows
        return self._by_stem[split, finding.path.stem]

    def add(self, path: Path, row: int) -> list[int]:
        """A new row of an image."""
        self._by_path[path].append(row)
        return [row]


def with_split(scans: Sequence[Scan], findings: Iterable[Finding] | None) -> list[Placed]:
    """Findings with the number of the scan that made them; -1 for those of the doctor."""
    found = [(number, one) for number, scan in enumerate(scans) for one in scan.findings]
    if findings is None:
        return found
    known = {one for _, one in found}
    return found + [(-1, one) for one in findings if one not in known]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _is_label(path: Path) -> bool:
    return path.suffix.lower() in (".txt", ".xml")


def _empty(path: Path) -> Record:
    return Record(path, (0, 0), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
