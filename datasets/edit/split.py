"""A data set divided anew into train, val and test.

Classes are divided evenly, the rarest first, by iterative stratification (Sechidis, Tsoumakas and
Vlahavas, "On the Stratification of Multi-Label Data", 2011); what divides is a group of images that
show the same picture, so that no two splits share an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..formats.record import Record
from ..scan.scan import Scan, scan_split
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


def assign(
    records: Sequence[Record], groups: Sequence[int], num_classes: int, shares: Sequence[float],
    seed: int,
) -> list[int]:  # fmt: skip
    """The split (place in ``shares``) of every image.

    groups: images with the same number stay together.
    """
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    keys = np.random.default_rng(seed).permutation(list(members)).tolist()
    # A column per class, and a last one for images without a box.
    counts = np.zeros((len(keys), num_classes + 1))
    for row, key in enumerate(keys):
        for number in members[key]:
            labels = records[number].labels
            counts[row] += np.bincount(labels, minlength=num_classes + 1)
            counts[row, -1] += not len(labels)
    sizes = np.array([len(members[key]) for key in keys], float)
    placed = _stratify(counts, sizes, np.array(shares))
    chosen = [0] * len(records)
    for key, place in zip(keys, placed, strict=True):
        for number in members[key]:
            chosen[number] = place
    return chosen


def _stratify(counts: np.ndarray, sizes: np.ndarray, shares: np.ndarray) -> list[int]:
    """The split of every group.  counts: [groups, classes].  sizes: images of each group."""
    wanted = shares[:, None] * counts.sum(axis=0)  # [splits, classes], boxes still to come
    room = shares * sizes.sum()
    placed = np.full(len(counts), -1)
    remaining = counts.sum(axis=0)
    while (placed < 0).any():
        column = int(np.where(remaining > 0, remaining, np.inf).argmin())
        having = np.flatnonzero((placed < 0) & (counts[:, column] > 0))
        for group in having[np.argsort(-counts[having, column], kind="stable")]:
            place = _neediest(wanted[:, column], shares, room, sizes[group])
            placed[group] = place
            wanted[place] -= counts[group]
            room[place] -= sizes[group]
            remaining -= counts[group]
        remaining[column] = 0
    return [int(place) for place in placed]


def _neediest(
    wanted: np.ndarray, shares: np.ndarray, room: np.ndarray, size: float
) -> int:
    """The split that lacks most of a class for its share; among equals the one with most room.

    A group larger than the room of a split does not go there, unless it fits nowhere.
    """
    fits = room >= size - 0.5
    if not fits.any():
        return int(room.argmax())
    lack = np.where(fits, wanted / shares, -np.inf)
    best = np.flatnonzero(lack >= lack.max() - 1e-9)
    return int(best[room[best].argmax()])


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
