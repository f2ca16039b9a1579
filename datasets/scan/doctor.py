"""The data set doctor: finds everything that is wrong with a data set before a long training.

Every split is scanned, so each finding of the scan is here, grouped by its id with a count and a
few examples.  Then come the checks that need the whole data set: the same image in two splits,
classes without a box, label files without an image.  Nothing is changed on disk.  Not checked:
images that look alike without being the same file, and whether a box is right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...files.counted import counted
from ..formats.reader import find_reader, open_split
from ..formats.record import Record
from ..images.image import ImageError, read_image
from ..sets.copies import same_content
from ..sets.dataset import Dataset, no_split
from ..sets.finding import SEVERITIES, Finding
from ..sets.locate import NEEDED
from .scan import EmptyDatasetError, Scan, scan_split

Progress = Callable[[int, int], None]

EXAMPLES = 5
TINY_PIXELS = 2.0
"""A box with a shorter side than this, in pixels of the original image, is hardly a target."""
SMALL_PIXELS = 4.0
"""The same at the size of the network's input: half of the finest stride."""
SMALL_SHARE = 0.05
"""Share of boxes that small from which it is a warning."""
DECODED_PIXELS = 2_000_000_000
"""Pixels that are decoded without being asked: half a minute of one processor core for JPEG."""
MOST_COMPARED = 20_000
"""A training compares the images of its splits up to this number; the doctor always does."""
IMBALANCE = 100
"""How many times more boxes the largest class may have than the smallest before it is mentioned."""


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
    without a label file.  per_class: class name -> boxes.  decoded: whether all its images were.
    """

    images: int
    usable: int
    boxes: int
    backgrounds: int
    unlabeled: int
    per_class: dict[str, int]
    fingerprint: str
    decoded: bool = False


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


def check_dataset(
    dataset: Dataset,
    *,
    image_size: int = 640,
    deep: bool | None = None,
    on_progress: Progress | None = None,
) -> Report:
    """Examine all splits of a data set.

    image_size: side of the network's input, for objects that are tiny there.  deep: decode every
    image; None: of the splits that fit into DECODED_PIXELS together.  on_progress: called with
    (images done, images) while a split is read.  An empty split is a finding.  Raises DatasetError
    only for what makes looking impossible.
    """
    scans, decoded = dict[str, Scan](), set[str]()
    empty: dict[str, SplitReport] = {}
    left, emptiness = DECODED_PIXELS, list[Finding]()
    for split in dataset.splits:
        try:
            scans[split] = scan_split(dataset, split, on_progress=on_progress, strict=False)
        except EmptyDatasetError as error:
            emptiness.append(Finding("split-empty", "error", dataset.yaml, 0, str(error)))
            empty[split] = _empty_report(dataset, error.scan)
            emptiness.extend(error.scan.findings if error.scan else [])
            continue
        pixels = sum(height * width for height, width in (r.size for r in scans[split].records))
        if deep or (deep is None and pixels <= left):
            scans[split] = _decoded(scans[split], on_progress)
            decoded.add(split)
            left -= pixels
    findings = [*emptiness, *examine(dataset, scans, image_size)]
    return Report(
        name=dataset.name,
        yaml=str(dataset.yaml),
        root=str(dataset.root),
        stand_in=dataset.stand_in,
        class_names=dataset.class_names,
        splits={
            split: empty[split]
            if split in empty
            else replace(_split_report(dataset, scans[split]), decoded=split in decoded)
            for split in dataset.splits
        },
        groups=group_findings(findings, dataset.root),
    )


def examine(dataset: Dataset, scans: dict[str, Scan], image_size: int) -> list[Finding]:
    """The findings of the scans, and those that need the whole data set."""
    findings = [*dataset.findings, *_split_findings(dataset), *_name_findings(dataset)]
    for scan in scans.values():
        findings += [*scan.findings, *_tiny_boxes(scan.records), *_unlabeled(scan)]
        findings += _small_boxes(dataset, scan, image_size)
    findings += [*_copies(scans, _shared_sources(dataset)), *_unused(dataset, scans)]
    return findings + (_class_findings(dataset, scans["train"]) if "train" in scans else [])


def compare_splits(
    dataset: Dataset, scans: dict[str, Scan], image_size: int, tile: int | None = None
) -> list[str]:
    """What a training should be warned of beside the findings of its scans, one line per kind."""
    findings = _same_splits(dataset)
    if sum(len(scan.records) for scan in scans.values()) <= MOST_COMPARED:
        findings += _copies(scans, _shared_sources(dataset))
    for scan in scans.values():
        findings += _small_boxes(dataset, scan, image_size, tile)
    return [
        f"{group.count} x {group.id}, first: {group.examples[0]} (det data check lists all)"
        for group in group_findings(findings, dataset.root)
        if group.severity == "warning"
    ]


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
    return tuple(sorted(groups, key=_order))


def _order(group: FindingGroup) -> tuple[int, bool, int, str]:
    """Errors first, and of these what is wrong with all labels alike."""
    severity = SEVERITIES.index(group.severity)
    return severity, not group.id.startswith("wrong-"), -group.count, group.id


def _split_findings(dataset: Dataset) -> list[Finding]:
    """Splits that are missing, and splits that read the same folder or list."""
    findings = [
        Finding("split-missing", "error", dataset.yaml, 0,
                dataset.missing.get(split) or no_split(split, dataset.splits))
        for split in NEEDED
        if split not in dataset.splits
    ]
    return findings + _same_splits(dataset)


def _name_findings(dataset: Dataset) -> list[Finding]:
    """What is odd about the classes as the files list them, and names that differ only in case."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in dict.fromkeys(dataset.class_names):
        spellings[name.casefold()].append(name)
    findings = [
        Finding("class-name-case", "warning", dataset.yaml, 0,
                f"{' and '.join(names)} are different classes; to merge them: "
                f"names='{','.join(names)}->{names[-1]}'")
        for names in spellings.values()
        if len(names) > 1
    ]
    return findings + find_reader(dataset.format).class_findings(dataset.as_in_files())


def _same_splits(dataset: Dataset) -> list[Finding]:
    findings = []
    for source, splits in _shared_sources(dataset).items():
        message = f"{' and '.join(splits)} are the same: {splits[-1]} measures what was trained on"
        findings.append(Finding("split-same", "warning", source, 0, message))
    return findings


def _shared_sources(dataset: Dataset) -> dict[Path, list[str]]:
    """Sources of more than one split -> these splits."""
    users: dict[Path, list[str]] = defaultdict(list)
    if dataset.hold_out is not None or find_reader(dataset.format).splits_inside:
        return {}  # the splits share their files, and no image
    for split, sources in dataset.splits.items():
        for source in {source.resolve() for source in sources}:
            users[source].append(split)
    return {source: splits for source, splits in users.items() if len(splits) > 1}


def _box_counts(dataset: Dataset, scan: Scan) -> np.ndarray:
    """Boxes of each class [C]."""
    labels = np.concatenate([np.zeros(0, np.int64), *(record.labels for record in scan.records)])
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


def _empty_report(dataset: Dataset, scan: Scan | None) -> SplitReport:
    """A split with nothing to use, counted all the same."""
    if scan is not None:
        return _split_report(dataset, scan)
    return SplitReport(0, 0, 0, 0, 0, dict.fromkeys(dataset.class_names, 0), "")


def _decoded(scan: Scan, on_progress: Progress | None) -> Scan:
    """The scan without the images that cannot be decoded whole, each a finding."""
    records, findings = [], list(scan.findings)
    for number, record in enumerate(scan.records, start=1):
        try:
            read_image(record.path, listen=True)
            records.append(record)
        except ImageError as error:
            message = str(error).removeprefix(f"{record.path}: ")
            findings.append(Finding("image-damaged", "error", record.path, 0, message))
        if on_progress is not None:
            on_progress(number, len(scan.records))
    return replace(scan, records=records, findings=findings)


def _small_boxes(
    dataset: Dataset, scan: Scan, image_size: int, tile: int | None = None
) -> list[Finding]:
    """Boxes that are hardly seen at the size of the network's input.  tile: side of the tiles that
    images are cut into."""
    counts = [len(record.labels) for record in scan.records]
    if not any(counts):
        return []
    boxes = np.concatenate([record.boxes for record in scan.records])
    sides = (boxes[:, 2:] - boxes[:, :2]).min(1)
    long = np.array([max(*record.size, 1) for record in scan.records])
    gains = image_size / np.minimum(long, tile or long)
    small = int((sides * np.repeat(gains, counts) < SMALL_PIXELS).sum())
    if not small:
        return []
    fix = ""
    if gains.min() < 1:
        fix = f"; a larger imgsz shows more of them, e.g. imgsz={2 * image_size}"
        in_tiles = sides * np.repeat(image_size / np.minimum(long, image_size), counts)
        if 2 * (in_tiles < SMALL_PIXELS).sum() <= small:
            fix += f", and so do tiles: tile={image_size} in det train"
    message = (
        f"{scan.split}: {small} of {len(sides)} boxes are less than {SMALL_PIXELS:g} pixels wide "
        f"or high at imgsz={image_size}, too small to be found{fix}"
    )
    if small >= SMALL_SHARE * len(sides):
        return [Finding("box-small", "warning", dataset.yaml, 0, message)]
    return [Finding("box-small-few", "info", dataset.yaml, 0, message)]


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
        Finding("image-unlabelled", "info", path, 0, "no label file: taken as a background")
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
    if not len(present):
        return findings
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
    for group in same_content(list(homes)):
        first, *rest = sorted(group, key=lambda path: ("train" not in homes[path], path))
        for path in rest:
            if set(homes[path]) & set(homes[first]):
                id, message = "image-copy", f"the same picture as {first}"
            else:
                where, there = " and ".join(homes[path]), " and ".join(homes[first])
                id, message = "image-leak", f"in {where}, the same picture as {first} in {there}"
            findings.append(Finding(id, "warning", path, 0, message))
    return findings


def _unused(dataset: Dataset, scans: dict[str, Scan]) -> list[Finding]:
    """Annotations that belong to no image; each once, though several splits may share a folder."""
    findings = [
        found
        for split, scan in scans.items()
        for found in open_split(dataset, split).unused(record.path for record in scan.records)
    ]
    return list(dict.fromkeys(findings))
