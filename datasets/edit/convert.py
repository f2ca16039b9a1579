"""A data set in another label format, written beside the old one and read back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml

from ...files.counted import counted
from ..formats.record import Record
from ..scan.scan import Scan, scan_split
from ..sets.dataset import Dataset, DatasetError
from ..sets.finding import Finding
from ..sets.locate import load_dataset
from .folder import new_folder, place_file
from .layout import place_records
from .writers import WRITERS, Splits, not_held

TOLERANCE = 0.01
"""Pixels by which a box may differ after it was written and read back."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class NewDataset:
    """What was written, or with ``dry_run`` would be.

    data: the YAML.  images, boxes: written, per split.  dropped: findings of severity error in the
    old data set, whose rows or images are not in the new one.  not_held: what the format cannot
    hold, counted.  linked: images that share their bytes with the old ones.  first: first names.
    """

    data: str
    format: str
    class_names: tuple[str, ...]
    images: dict[str, int]
    boxes: dict[str, int]
    dropped: int
    not_held: dict[str, int]
    linked: int = 0
    first: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and lists, for ``--json``."""
        return asdict(self)


def convert(
    dataset: Dataset, out: Path, format: str, *, images: str = "link", dry_run: bool = False,
    allow_errors: bool = False, on_progress: Progress | None = None,
) -> NewDataset:  # fmt: skip
    """Write every split of a data set to ``out`` in another label format.

    images: a word of folder.IMAGES.  dry_run: write nothing.  allow_errors: go on where rows are
    dropped as errors.  More than six parameters: each is a word of the command.
    Raises DatasetError.
    """
    scans = {
        split: scan_split(dataset, split, on_progress=on_progress, strict=not allow_errors)
        for split in dataset.splits
    }
    splits = {split: place_records(split, scan.records) for split, scan in scans.items()}
    findings = [finding for scan in scans.values() for finding in scan.findings]
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors and not (allow_errors or dry_run):
        raise DatasetError(
            f"{dataset.yaml}: boxes or images would be left out because of"
            f" {counted(len(errors), 'error')}: {errors[0].located(dataset.root)}: fix them"
            f" (det data check lists them), or go on with allow=errors"
        )
    return write_dataset(
        splits, dataset, out, format=format, images=images, findings=findings, dry_run=dry_run
    )


def write_dataset(
    splits: Splits, dataset: Dataset, out: Path, *, format: str, images: str,
    findings: Sequence[Finding] = (), dry_run: bool = False,
    notes: Mapping[str, Any] = MappingProxyType({}),
) -> NewDataset:  # fmt: skip
    """Write placed images to a new folder, and read them back to compare.

    dataset: what they come from; its names, license and root are used.  notes: more JSON files by
    name.  More than six parameters: convert, split, merge and label all end here.  Raises
    DatasetError if a box comes back differently.
    """
    records = [one.record for placed in splits.values() for one in placed]
    told = NewDataset(
        data=str(out / "data.yaml"),
        format=format,
        class_names=dataset.class_names,
        images={split: len(placed) for split, placed in splits.items()},
        boxes={split: sum(len(o.record.boxes) for o in placed) for split, placed in splits.items()},
        dropped=sum(finding.severity == "error" for finding in findings),
        not_held=not_held(format, records),
        first=[f"images/{split}/{o.name}" for split, placed in splits.items() for o in placed[:2]],
    )
    if dry_run:
        return told
    with new_folder(out) as folder:
        places = [
            place_file(one.record.path, folder / "images" / split / one.name, copy=images == "copy")
            for split, placed in splits.items()
            for one in placed
        ]
        lines = WRITERS[format](folder, splits, dataset.class_names)
        describe(folder / "data.yaml", dataset, lines)
        rows = [
            {"id": f.id, "severity": f.severity, "place": f.located(dataset.root)} for f in findings
        ]
        for name, content in {"findings.json": rows, **notes}.items():
            (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
        _read_back(folder / "data.yaml", splits, crowds=format == "coco")
        if images == "none":
            shutil.rmtree(folder / "images")
    linked = sum(places) if images == "link" else 0
    return NewDataset(**{**told.__dict__, "linked": linked})


def describe(file: Path, dataset: Dataset, lines: dict[str, Any]) -> None:
    """Write the YAML of a data set: where its splits are, and its classes by number."""
    names = dict(enumerate(dataset.class_names))
    license = {"license": dataset.license} if dataset.license else {}
    text = yaml.safe_dump({**lines, **license, "names": names}, allow_unicode=True, sort_keys=False)
    file.write_text(text, encoding="utf-8")


def _read_back(file: Path, splits: Splits, *, crowds: bool) -> None:
    """Raise DatasetError unless what was written is read as what it was written from."""
    written = load_dataset(file, download=False)
    for split, placed in splits.items():
        if not placed:
            continue
        scan = scan_split(written, split, cache=False)
        found = {record.path: record for record in scan.records}
        for one in placed:
            path = file.parent / "images" / split / one.name
            wanted = one.record if crowds else one.record.without_crowd()
            if path not in found or not _equal(wanted, found[path]):
                said = _findings_of(scan, path)
                raise DatasetError(f"{one.record.path}: read back differently{said}")


def _equal(a: Record, b: Record) -> bool:
    return (
        a.size == b.size
        and np.array_equal(a.labels, b.labels)
        and np.allclose(a.boxes, b.boxes, rtol=0, atol=TOLERANCE)
        and np.array_equal(_crowd(a), _crowd(b))
    )


def _crowd(record: Record) -> np.ndarray:
    return np.zeros(len(record.boxes), bool) if record.crowd is None else record.crowd


def _findings_of(scan: Scan, path: Path) -> str:
    """What the scan says about an image, or of the file that annotates it."""
    near = [f for f in scan.findings if f.path.stem == path.stem] or scan.findings
    return f": {near[0].message}" if near else ""
