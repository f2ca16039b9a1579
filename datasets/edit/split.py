"""A data set divided anew into train, val and test.

Classes are divided evenly (stratify.py); what divides is a group of images that show the same
picture, so that no two splits share an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..formats.record import Record
from ..scan.scan import Scan, scan_split
from ..scan.stratify import assign
from ..sets.dataset import Dataset, DatasetError
from .convert import NewDataset, describe, write_dataset
from .copies import group_images
from .folder import new_folder
from .layout import Placed, free_name, place_records
from .writers import Splits

Progress = Callable[[int, int], None]


def split_dataset(
    dataset: Dataset, out: Path, *, val: float, test: float, seed: int, images: str,
    dry_run: bool = False, on_progress: Progress | None = None,
) -> tuple[NewDataset, list[str]]:  # fmt: skip
    """Divide all images of a data set, and say which of its present splits share pictures.

    val, test: shares of the images.  images: ``none`` writes lists of the images where they are,
    which only YOLO labels allow.  More than six parameters: each is a word of the command.
    Raises DatasetError.
    """
    if val + test >= 1:
        raise DatasetError(f"val={val:g} and test={test:g} leave nothing for training")
    scans = [scan_split(dataset, split) for split in dataset.splits]
    records = [record for scan in scans for record in scan.records]
    groups = group_images([record.path for record in records], on_progress)
    leaks = find_leaks(scans, groups)
    shares = {"train": 1 - val - test, "val": val, "test": test}
    shares = {split: share for split, share in shares.items() if share}
    chosen = assign(records, groups, dataset.num_classes, list(shares.values()), seed)
    names = list(shares)
    parts: dict[str, list[Record]] = {split: [] for split in shares}
    for record, number in zip(records, chosen, strict=True):
        parts[names[number]].append(record)
    empty = [split for split, part in parts.items() if not part]
    if empty:
        pictures = len(set(groups))
        raise DatasetError(f"{pictures} different pictures are too few: {empty[0]} would be empty")
    if images == "none":
        return _write_lists(parts, dataset, out, dry_run), leaks
    splits = _place(scans, [names[number] for number in chosen])
    findings = [finding for scan in scans for finding in scan.findings]
    told = write_dataset(
        splits, dataset, out, format=dataset.format, images=images, findings=findings,
        dry_run=dry_run,
    )  # fmt: skip
    return told, leaks


def _place(scans: Sequence[Scan], chosen: Sequence[str]) -> Splits:
    """Names in the new splits: each image keeps the one that it has in its old split.

    chosen: the new split of the records of all scans in turn.
    """
    old = [placed for scan in scans for placed in place_records(scan.split, scan.records)]
    splits: Splits = {}
    taken: dict[str, set[str]] = {}
    for placed, split in zip(old, chosen, strict=True):
        name = free_name(placed.name, taken.setdefault(split, set()))
        splits.setdefault(split, []).append(Placed(placed.record, split, name))
    return splits


def find_leaks(scans: Sequence[Scan], groups: Sequence[int]) -> list[str]:
    """A line per picture that is in two splits.  groups: of the records of all scans in turn."""
    owners = [(scan.split, record.path) for scan in scans for record in scan.records]
    first: dict[int, tuple[str, Path]] = {}
    lines = []
    for (split, path), group in zip(owners, groups, strict=True):
        known, other = first.setdefault(group, (split, path))
        if known != split:
            lines.append(f"{split}: {path.name} shows the picture of {other.name} in {known}")
    return lines


def _write_lists(
    parts: dict[str, list[Record]], dataset: Dataset, out: Path, dry_run: bool
) -> NewDataset:
    """Text files that list the images where they are, and a YAML."""
    if dataset.format != "yolo":
        raise DatasetError(
            f"{dataset.yaml}: lists of images can name YOLO labels only, and these are"
            f" {dataset.format}: use images=link or images=copy"
        )
    if dataset.renumbering:
        raise DatasetError(
            "names= changes class numbers, and lists of images use the label files as they are:"
            " write new ones with images=link or images=copy"
        )
    told = NewDataset(
        data=str(out / "data.yaml"), format="yolo", class_names=dataset.class_names,
        images={split: len(part) for split, part in parts.items()},
        boxes={split: sum(len(record.boxes) for record in part) for split, part in parts.items()},
        dropped=0, not_held={},
        first=[str(record.path) for part in parts.values() for record in part[:2]],
    )  # fmt: skip
    if dry_run:
        return told
    with new_folder(out) as folder:
        for split, part in parts.items():
            lines = "".join(f"{record.path}\n" for record in part)
            (folder / f"{split}.txt").write_text(lines, encoding="utf-8")
        describe(folder / "data.yaml", dataset, {split: f"{split}.txt" for split in parts})
    return told
