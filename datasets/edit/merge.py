"""Several data sets made one: classes are matched by name, splits by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..scan.scan import Scan, scan_split
from ..sets.dataset import Dataset, DatasetError
from ..sets.finding import Finding
from .convert import NewDataset, write_dataset
from .copies import group_images
from .layout import Placed, free_name, place_records
from .split import find_leaks
from .writers import Splits


def merge(
    datasets: Sequence[Dataset], out: Path, *, format: str, images: str, dry_run: bool = False
) -> tuple[NewDataset, list[str]]:
    """Write one data set of several, and say which of its splits share pictures.

    Where two images would have the same name, later ones get the name of their data set before
    theirs.  Raises DatasetError.
    """
    names = merged_names(datasets)
    splits: Splits = {}
    findings: list[Finding] = []
    taken: dict[str, set[str]] = {}
    together: dict[str, list[Scan]] = {}
    for dataset in datasets:
        table = np.array([names.index(name) for name in dataset.class_names], np.int64)
        for split in dataset.splits:
            scan = scan_split(dataset, split)
            findings += scan.findings
            together.setdefault(split, []).append(scan)
            used = taken.setdefault(split, set())
            for placed in place_records(split, scan.records):
                record = replace(placed.record, labels=table[placed.record.labels])
                name = placed.name
                if str(name.with_suffix("")).casefold() in used:
                    name = name.with_name(f"{dataset.name}_{name.name}")
                splits.setdefault(split, []).append(Placed(record, split, free_name(name, used)))
    whole = replace(
        datasets[0], class_names=names, license=_license(datasets), root=Path(out.anchor or ".")
    )
    told = write_dataset(
        splits, whole, out, format=format, images=images, findings=findings, dry_run=dry_run
    )
    scans = [scan for some in together.values() for scan in some]
    groups = group_images([record.path for scan in scans for record in scan.records])
    return told, find_leaks(scans, groups)


def merged_names(datasets: Sequence[Dataset]) -> tuple[str, ...]:
    """All class names, in the order in which they occur first.

    Raises DatasetError where two differ only in upper and lower case.
    """
    names = dict.fromkeys(name for dataset in datasets for name in dataset.class_names)
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(name.casefold(), name)
        if other != name:
            raise DatasetError(
                f"the classes {other!r} and {name!r} differ only in upper and lower case:"
                f" make them one with names='{other},{name}->{name}'"
            )
    return tuple(names)


def _license(datasets: Sequence[Dataset]) -> str | None:
    """All licenses that the data sets name."""
    return "; ".join(dict.fromkeys(d.license for d in datasets if d.license)) or None
