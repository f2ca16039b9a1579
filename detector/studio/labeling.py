"""Labels of one data set in the studio: as they are on the disk, with the draft's changes."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.edit.version import (
    Version,
    VersionExists,
    first_version,
    free_number,
    home_of,
    versions_of,
    write_version,
)
from ...datasets.formats.record import Record
from ...files.counted import counted
from ..examine.found import Found
from .asked import BadRequest
from .draft import Changed, Draft, Step
from .seen import Look
from .sets import OpenSet
from .table import Table

MOST_BOXES = 5000
"""Boxes of one image that are taken."""
LEAST_SIDE = 1.0
"""Pixels; a smaller box is refused: it is a slip of the mouse."""


class Labeling:
    """An open data set, its draft, and what was computed to order its images.

    scores: order -> a number per image, the highest first.  found: what the last checkpoint found,
    with the classes of the data set.
    """

    def __init__(self, one: OpenSet) -> None:
        self.one = one
        self.draft = Draft(one.path)
        self.lock = threading.RLock()
        self.look: Look | None = None
        self.scores: dict[str, np.ndarray] = {}
        self.found: Sequence[Found | None] = ()
        self._names: list[str] = []

    @property
    def table(self) -> Table:
        return self.one.table

    @property
    def names_of_images(self) -> list[str]:
        """Name of each image in the draft: its path.  The table grows when flaws are found."""
        if len(self._names) != len(self.table):
            self._names = [str(record.path) for record in self.table.records]
        return self._names

    @property
    def home(self) -> Path:
        """The folder in which versions are written."""
        return home_of(first_version(self.one.path))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, with those that the draft adds."""
        return (*self.table.class_names, *self.draft.names)

    @property
    def versions(self) -> list[Version]:
        """The versions on the disk, the user's own first."""
        return versions_of(self.one.path)

    def image(self, number: int) -> Record:
        """An image by number.  Raises BadRequest for one that cannot be used."""
        table = self.table
        if not 0 <= number < len(table) or not table.usable[number]:
            raise BadRequest(f"n={number}: is no image that can be labeled")
        return table.records[number]

    def boxes(self, number: int) -> list[list[float]]:
        """All boxes of an image now: [x1, y1, x2, y2, class] each."""
        drafted = self.draft.boxes(self.names_of_images[number])
        if drafted is not None:
            return [list(box) for box in drafted]
        record = self.table.records[number]
        pairs = zip(record.boxes.tolist(), record.labels.tolist(), strict=True)
        return [[*box, label] for box, label in pairs]

    def is_unlabeled(self, number: int) -> bool:
        """Whether nobody has said anything about an image yet."""
        drafted = self.draft.boxes(self.names_of_images[number])
        return drafted is None and (
            bool(self.table.unlabeled[number]) or self.names_of_images[number] in self._to_do
        )

    @property
    def unlabeled(self) -> np.ndarray:
        """``is_unlabeled`` of every image [n]."""
        open_ones = self.table.unlabeled | self.images_in(self._to_do)
        return np.asarray(open_ones & ~self.images_in(self.draft.changed))

    def images_in(self, names: Collection[str]) -> np.ndarray:
        """Whether the name of each image [n] is among these."""
        if not names:
            return np.zeros(len(self.table), bool)
        return np.array([name in names for name in self.names_of_images])

    @cached_property
    def _to_do(self) -> frozenset[str]:
        """Images that had no labels when this version was saved."""
        note = next((v.note for v in self.versions if v.data == self.one.path), {})
        names = note.get("unlabelled", ())
        return frozenset(str(Path(self.home, name)) for name in names if isinstance(name, str))

    # -- changes ---------------------------------------------------------------------------------

    def edit(self, number: int, boxes: Any, what: str, seen: int) -> None:
        """Give an image new boxes.  Raises BadRequest, Changed, OSError."""
        checked = checked_boxes(boxes, self.image(number), len(self.classes))
        self.draft.add(Step(what, {self.names_of_images[number]: checked}), seen)

    def prelabel(self, numbers: Sequence[int], confidence: float, seen: int) -> int:
        """Give images without labels the boxes of the checkpoint that looked last; how many.

        Raises BadRequest where there is nothing to give.
        """
        boxes, to_do = {}, self.unlabeled & self.table.usable
        for number in numbers:
            found = self.found[number] if number < len(self.found) else None
            if found is not None and to_do[number]:
                rows = found_boxes(found.above(confidence))
                if rows:
                    boxes[self.names_of_images[number]] = rows
        if not boxes:
            raise BadRequest("no image without labels has a box of the checkpoint above conf")
        model = self.look.model if self.look else "a checkpoint"
        what = f"pre-labels of {model} for {counted(len(boxes), 'image')}"
        self.draft.add(Step(what, boxes), seen)
        return len(boxes)

    def add_class(self, name: Any, seen: int) -> None:
        """A new class at the end.  Raises BadRequest for one that exists."""
        text = name.strip() if isinstance(name, str) else ""
        if not text or len(text) > 200 or not text.isprintable():
            raise BadRequest("name: expected the name of a class, up to 200 characters")
        if text in self.classes:
            raise BadRequest(f"class {text} is there already")
        self.draft.add(Step(f"added class {text}", names=(text,)), seen)

    def move(self, numbers: Sequence[int], split: str, seen: int) -> int:
        """Move images to another split; how many were not there yet."""
        if split not in ("train", "val", "test"):
            raise BadRequest(f"split={split}: expected train, val or test")
        moving = {
            self.names_of_images[n]: split for n in numbers if self.split_of(n) != split
        }  # fmt: skip
        if not moving:
            raise BadRequest(f"every chosen image is in {split} already")
        what = f"moved {counted(len(moving), 'image')} to {split}"
        self.draft.add(Step(what, splits=moving), seen)
        return len(moving)

    def split_of(self, number: int) -> str:
        """The split of an image, as the draft has it."""
        own = self.table.splits[int(self.table.split[number])]
        return self.draft.splits.get(self.names_of_images[number], own)

    # -- saving ----------------------------------------------------------------------------------

    def save(self, seen: int, *, beside: bool) -> Version:
        """Write the labels with all changes as a new version, and forget the draft.

        beside: also where a newer version exists, which does not get these changes.  Raises Changed
        where it does, and OSError; the draft stays then.
        """
        with self.lock:
            self.draft.refresh(seen)
            if not self.draft.done:
                raise BadRequest("there is no change to save")
            newest = self.versions[-1]
            if newest.data != self.one.path and not beside:
                raise Changed(
                    f"{newest.name} was saved after the version that these changes belong to: open"
                    f" it and make them there, or save them beside it, without what is new in it"
                )
            version = self._write()
            self.draft.clear(seen)
            return version

    def _write(self) -> Version:
        dataset = self.one.dataset
        if dataset is None:
            raise BadRequest("the data set is still being read")
        records: dict[str, list[Record]] = {split: [] for split in ("train", "val", "test")}
        for number, usable in enumerate(self.table.usable.tolist()):
            if usable:
                records.setdefault(self.split_of(number), []).append(self.record(number))
        try:
            return write_version(
                replace(dataset, class_names=self.classes), self.one.path, records,
                free_number(self.one.path), self._note(),
            )  # fmt: skip
        except VersionExists as error:
            raise Changed(str(error)) from None

    def record(self, number: int) -> Record:
        """An image with its boxes now."""
        record = self.table.records[number]
        drafted = self.draft.boxes(self.names_of_images[number])
        return record if drafted is None else relabeled(record, drafted)

    def _note(self) -> dict[str, Any]:
        table = self.table
        unlabeled = np.flatnonzero(table.usable & self.unlabeled).tolist()
        return {
            "images": int(table.usable.sum()),
            "changed": len(self.draft.changed),
            "steps": [step.what for step in self.draft.done][-1000:],
            "left_out": [
                str(record.path) for record, good in zip(table.records, table.usable, strict=True)
                if not good
            ],
            "unlabelled": [_from(self.home, table.records[n].path) for n in unlabeled],
        }  # fmt: skip


def _from(home: Path, path: Path) -> str:
    return str(path.relative_to(home)) if path.is_relative_to(home) else str(path)


def checked_boxes(boxes: Any, record: Record, classes: int) -> list[list[float]]:
    """Boxes from the browser, cut at the border of the image.  Raises BadRequest."""
    if not isinstance(boxes, list) or len(boxes) > MOST_BOXES:
        raise BadRequest(f"boxes: expected a list of at most {MOST_BOXES}")
    height, width = record.size
    checked: list[list[float]] = []
    for box in boxes:
        numbers = isinstance(box, list) and len(box) == 5
        if not numbers or not all(type(v) in (int, float) and abs(v) < 1e7 for v in box):
            raise BadRequest("boxes: expected [x1, y1, x2, y2, class], all numbers")
        x1, y1, x2, y2, label = box
        if label != int(label) or not 0 <= label < classes:
            raise BadRequest(f"boxes: class {label}: expected a number from 0 to {classes - 1}")
        sides = np.clip([x1, y1, x2, y2], 0, [width, height, width, height]).tolist()
        if sides[2] - sides[0] < LEAST_SIDE or sides[3] - sides[1] < LEAST_SIDE:
            raise BadRequest(f"boxes: a box of less than {LEAST_SIDE:g} pixel is refused")
        checked.append([*sides, int(label)])
    return checked


def relabeled(record: Record, boxes: Sequence[Sequence[float]]) -> Record:
    """The record with other boxes; one that is where it was keeps its crowd mark and its area."""
    rows = np.array(boxes, np.float64).reshape(-1, 5)
    new = rows[:, :4].astype(np.float32)
    old = {tuple(box): number for number, box in enumerate(record.boxes.tolist())}
    same = [old.get(tuple(box), -1) for box in new.tolist()]
    crowd = area = None
    if record.crowd is not None:
        crowd = np.array([n >= 0 and bool(record.crowd[n]) for n in same], bool)
    if record.area is not None:
        own = (new[:, 2:] - new[:, :2]).prod(axis=1)
        kept = [record.area[n] if n >= 0 else own[place] for place, n in enumerate(same)]
        area = np.array(kept, np.float32)
    labels = rows[:, 4].astype(np.int64)
    return replace(record, boxes=new, labels=labels, crowd=crowd, area=area)


def found_boxes(found: Found) -> list[list[float]]:
    """The boxes of a checkpoint as boxes of a draft, without those of less than a pixel."""
    pairs = zip(found.boxes.tolist(), found.labels.tolist(), strict=True)
    rows = [[*box, label] for box, label in pairs]
    return [b for b in rows if b[2] - b[0] >= LEAST_SIDE and b[3] - b[1] >= LEAST_SIDE]


def class_numbers(names: Sequence[str]) -> Mapping[str, int]:
    """Class name -> number."""
    return {name: number for number, name in enumerate(names)}
