"""Data sets with labels spoiled on purpose, and the list of what was done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from yolodet.datasets.edit.convert import write_dataset
from yolodet.datasets.edit.layout import place_records
from yolodet.datasets.formats.record import Record
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.dataset import Dataset
from yolodet.datasets.sets.locate import load_dataset

KINDS = ("missing", "wrong class", "loose", "duplicated")
SHIFT = (0.25, 0.5)
"""How far a loose box is shifted: a share of its width and of its height, each to either side."""
JITTER = 0.05
"""How far the sides of a doubled box are moved: a share of its width and height."""


@dataclass(frozen=True)
class Spoiled:
    """One box that was spoiled.  image: its name in the new data set.  box: where it was, xyxy
    pixels.  label: its true class."""

    image: str
    kind: str
    box: tuple[float, ...]
    label: int


def spoil(data: str, out: Path, share: float, seed: int) -> list[Spoiled]:
    """Write ``data`` to ``out`` with a share of the boxes of train spoiled; other splits stay.

    Every box is chosen with the same probability, and every kind equally often; a data set of one
    class has no wrong class.  The list is ``spoiled.json`` in the folder.
    """
    dataset = load_dataset(data, download=False)
    rng = np.random.default_rng(seed)
    scans = {split: scan_split(dataset, split, strict=False) for split in dataset.splits}
    placed = {split: place_records(split, scan.records) for split, scan in scans.items()}
    kinds = [kind for kind in KINDS if dataset.num_classes > 1 or kind != "wrong class"]
    done: list[Spoiled] = []
    places = [(n, k) for n, one in enumerate(placed["train"]) for k in range(len(one.record.boxes))]
    chosen = rng.permutation(len(places))[: max(round(share * len(places)), 1)]
    for number, one in enumerate(placed["train"]):
        mine = sorted(places[c][1] for c in chosen if places[c][0] == number)
        if mine:
            marks = [(k, kinds[int(rng.integers(len(kinds)))]) for k in mine]
            record, what = spoiled_record(one.record, marks, dataset, rng)
            placed["train"][number] = replace(one, record=record)
            done += [Spoiled(one.name.name, *each) for each in what]
    write_dataset(placed, dataset, out, format="yolo", images="link")
    (out / "spoiled.json").write_text(json.dumps([asdict(each) for each in done], indent=1))
    return done


def spoiled_record(
    record: Record, marks: Sequence[tuple[int, str]], dataset: Dataset, rng: np.random.Generator
) -> tuple[Record, list[tuple[str, tuple[float, ...], int]]]:
    """A record with some boxes spoiled, and kind, true box and class of each."""
    boxes, labels = record.boxes.copy(), record.labels.copy()
    height, width = record.size
    limits = np.array([width, height, width, height], np.float32)
    keep = np.ones(len(boxes), bool)
    more: list[tuple[np.ndarray, int]] = []
    what = []
    for k, kind in marks:
        true, label = record.boxes[k], int(record.labels[k])
        sides = np.tile(true[2:] - true[:2], 2)
        if kind == "missing":
            keep[k] = False
        elif kind == "wrong class":
            labels[k] = (label + 1 + rng.integers(dataset.num_classes - 1)) % dataset.num_classes
        elif kind == "loose":
            shift = rng.uniform(*SHIFT, 2) * rng.choice([-1, 1], 2)
            moved = np.clip(true + np.tile(shift, 2) * sides, 0, limits)
            if (moved[2:] - moved[:2] < 2).any():  # pushed out of the picture
                moved = np.clip(true - np.tile(shift, 2) * sides, 0, limits)
            boxes[k] = moved
        else:
            jitter = rng.uniform(-JITTER, JITTER, 4) * sides
            more.append((np.clip(true + jitter, 0, limits).astype(np.float32), label))
        what.append((kind, tuple(map(float, true)), label))
    if more:
        boxes = np.concatenate([boxes[keep], np.stack([box for box, _ in more])])
        labels = np.concatenate([labels[keep], np.array([n for _, n in more], np.int64)])
    else:
        boxes, labels = boxes[keep], labels[keep]
    return Record(record.path, record.size, boxes.astype(np.float32), labels), what


def read_spoiled(folder: Path) -> list[Spoiled]:
    """What was done to a data set that ``spoil`` wrote."""
    rows = json.loads((folder / "spoiled.json").read_text())
    return [Spoiled(**{**row, "box": tuple(row["box"])}) for row in rows]
