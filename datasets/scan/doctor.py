"""The data set doctor: finds everything that is wrong with a data set before a long training.

Every split is scanned, so each finding of the scan is here, grouped by its id with a count and a
few examples.  Then come the checks that need the whole data set: the same image in two splits,
classes without a box, label files without an image.  Nothing is changed on disk.  Not checked:
images that look alike without being the same file, and whether a box is right.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...files.counted import counted
from ..finding import SEVERITIES, Finding
from ..formats.reader import open_split
from ..formats.record import Record
from ..sets.dataset import Dataset
from ..sets.locate import NEEDED
from .scan import EmptyDatasetError, Scan, scan_split

Progress = Callable[[int, int], None]

EXAMPLES = 5
TINY_PIXELS = 2.0
"""A box with a shorter side than this, in pixels of the original image, is hardly a target."""
IMBALANCE = 100
"""How many times more boxes the largest class may have than the smallest before it is mentioned."""
ENDS_BYTES = 4096
"""Bytes at either end that are compared before whole files are."""


@dataclass(frozen=True)
class FindingGroup:
    """All findings of one id.  examples: the first few as ``file:line: message``."""

    id: str
    severity: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class SplitReport:
    """What a split holds.

    images: all, usable or not.  backgrounds: usable images without a box.  unlabeled: images
    without a label file.  per_class: class name -> boxes.
    """

    images: int
    usable: int
    boxes: int
    backgrounds: int
    unlabeled: int
    per_class: dict[str, int]
    fingerprint: str


@dataclass(frozen=True)
class Report:
    """The doctor's answer.  groups: errors first, then by count."""

    name: str
    yaml: str
    root: str
    stand_in: str | None
    class_names: tuple[str, ...]
    splits: dict[str, SplitReport]
    groups: tuple[FindingGroup, ...]

    def count(self, severity: str) -> int:
        """How many findings there are of a severity."""
        return sum(group.count for group in self.groups if group.severity == severity)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "counts": {word: self.count(word) for word in SEVERITIES}}


def check_dataset(dataset: Dataset, *, on_progress: Progress | None = None) -> Report:
    """Examine all splits of a data set.

    on_progress: called with (images done, images) while a split is read.  An empty split is a
    finding.  Raises DatasetError only for what makes looking impossible.
    """
    scans: dict[str, Scan] = {}
    findings = [*dataset.findings, *_split_findings(dataset)]
    for split in dataset.splits:
        try:
            scans[split] = scan_split(dataset, split, on_progress=on_progress)
        except EmptyDatasetError as error:
            findings.append(Finding("split-empty", "error", dataset.yaml, 0, str(error)))
            continue
        findings.extend(scans[split].findings)
        findings.extend(_tiny_boxes(scans[split].records))
        findings.extend(_unlabeled(scans[split]))
    findings.extend(_copies(scans, _shared_sources(dataset)))
    findings.extend(_unused(dataset, scans))
    if "train" in scans:
        findings.extend(_class_findings(dataset, scans["train"]))
    return Report(
        name=dataset.name,
        yaml=str(dataset.yaml),
        root=str(dataset.root),
        stand_in=dataset.stand_in,
        class_names=dataset.class_names,
        splits={split: _split_report(dataset, scan) for split, scan in scans.items()},
        groups=group_findings(findings, dataset.root),
    )


def group_findings(
    findings: Iterable[Finding], root: Path | None = None
) -> tuple[FindingGroup, ...]:
    """Findings by id, errors first, then by count; paths below ``root`` are shortened."""
    by_id: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        by_id[finding.severity, finding.id].append(finding)
    groups = [
        FindingGroup(
            id, severity, len(some), tuple(one.located(root) for one in some[:EXAMPLES])
        )
        for (severity, id), some in by_id.items()
    ]
    return tuple(sorted(groups, key=lambda g: (SEVERITIES.index(g.severity), -g.count, g.id)))


def _split_findings(dataset: Dataset) -> list[Finding]:
    """Splits that are missing, and splits that read the same folder or list."""
    findings = [
        Finding("split-missing", "error", dataset.yaml, 0, f"{split} is not named")
        for split in NEEDED
        if split not in dataset.splits
    ]
    for source, splits in _shared_sources(dataset).items():
        message = f"{' and '.join(splits)} are the same: {splits[-1]} measures what was trained on"
        findings.append(Finding("split-same", "warning", source, 0, message))
    return findings


def _shared_sources(dataset: Dataset) -> dict[Path, list[str]]:
    """Sources of more than one split -> these splits."""
    users: dict[Path, list[str]] = defaultdict(list)
    for split, sources in dataset.splits.items():
        for source in {source.resolve() for source in sources}:
            users[source].append(split)
    return {source: splits for source, splits in users.items() if len(splits) > 1}


def _box_counts(dataset: Dataset, scan: Scan) -> np.ndarray:
    """Boxes of each class [C]."""
    labels = np.concatenate([record.labels for record in scan.records])
    return np.bincount(labels, minlength=dataset.num_classes)


def _split_report(dataset: Dataset, scan: Scan) -> SplitReport:
    counts = _box_counts(dataset, scan).tolist()
    # Two classes may share a name, and then their boxes belong together here too.
    per_class = dict.fromkeys(dataset.class_names, 0)
    for name, count in zip(dataset.class_names, counts, strict=True):
        per_class[name] += count
    return SplitReport(
        images=scan.num_images,
        usable=len(scan.records),
        boxes=sum(counts),
        backgrounds=sum(not len(record.labels) for record in scan.records),
        unlabeled=len(scan.unlabeled),
        per_class=per_class,
        fingerprint=scan.fingerprint,
    )


def _tiny_boxes(records: Sequence[Record]) -> list[Finding]:
    findings = []
    for record in records:
        sides = record.boxes[:, 2:] - record.boxes[:, :2]
        for place in np.flatnonzero(sides.min(axis=1, initial=np.inf) < TINY_PIXELS):
            width, height = sides[place].tolist()
            message = f"a box of {width:.1f} x {height:.1f} pixels is hardly a target"
            findings.append(Finding("box-tiny", "warning", record.path, 0, message))
    return findings


def _unlabeled(scan: Scan) -> list[Finding]:
    return [
        Finding("image-unlabeled", "info", path, 0, "no label file: taken as a background")
        for path in scan.unlabeled
    ]


def _class_findings(dataset: Dataset, scan: Scan) -> list[Finding]:
    """Classes that training will not see, and classes that it will hardly see."""
    counts = _box_counts(dataset, scan)
    findings = [
        Finding("class-without-box", "warning", dataset.yaml, 0,
                f"class {number} ({dataset.class_names[number]}) has no box in train")
        for number in np.flatnonzero(counts == 0).tolist()
    ]
    present = np.flatnonzero(counts)
    most, least = present[counts[present].argmax()], present[counts[present].argmin()]
    if counts[most] >= IMBALANCE * counts[least]:
        message = (
            f"{dataset.class_names[most]} has {counted(counts[most], 'box')} in train, "
            f"{dataset.class_names[least]} has {counts[least]}"
        )
        findings.append(Finding("class-imbalance", "info", dataset.yaml, 0, message))
    return findings


def _copies(scans: dict[str, Scan], shared: dict[Path, list[str]]) -> list[Finding]:
    """The same image under several names: a leak between splits, a repetition inside one.

    shared: sources of several splits, whose images are not reported one by one.
    """
    homes: dict[Path, list[str]] = defaultdict(list)
    for split, scan in scans.items():
        for record in scan.records:
            homes[record.path].append(split)
    findings = [
        Finding("image-leak", "warning", path, 0, f"the same file is in {' and '.join(splits)}")
        for path, splits in homes.items()
        if len(splits) > 1 and splits not in shared.values()
    ]
    for group in _same_content(list(homes)):
        first, *rest = sorted(group, key=lambda path: ("train" not in homes[path], path))
        for path in rest:
            if set(homes[path]) & set(homes[first]):
                id, message = "image-copy", f"the same picture as {first}"
            else:
                where, there = " and ".join(homes[path]), " and ".join(homes[first])
                id, message = "image-leak", f"in {where}, the same picture as {first} in {there}"
            findings.append(Finding(id, "warning", path, 0, message))
    return findings


def _same_content(paths: list[Path]) -> list[list[Path]]:
    """Groups of files with equal bytes: compared by size, then by their ends, then by hash."""
    groups = [paths]
    for key in (_size, _ends, _whole):
        groups = [finer for group in groups for finer in _split_by(group, key)]
    return groups


def _split_by(paths: list[Path], key: Callable[[Path], object]) -> list[list[Path]]:
    """Groups of two and more files with the same key; a file that has gone is in none."""
    parts: dict[object, list[Path]] = defaultdict(list)
    for path in paths:
        try:
            parts[key(path)].append(path)
        except OSError:
            continue
    return [part for part in parts.values() if len(part) > 1]


def _size(path: Path) -> int:
    return os.stat(path).st_size


def _ends(path: Path) -> bytes:
    with open(path, "rb") as file:
        head = file.read(ENDS_BYTES)
        file.seek(max(0, os.fstat(file.fileno()).st_size - ENDS_BYTES))
        return hashlib.sha256(head + file.read()).digest()


def _whole(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _unused(dataset: Dataset, scans: dict[str, Scan]) -> list[Finding]:
    """Annotations that belong to no image; each once, though several splits may share a folder."""
    findings = [
        found
        for split, scan in scans.items()
        for found in open_split(dataset, split).unused(record.path for record in scan.records)
    ]
    return list(dict.fromkeys(findings))
