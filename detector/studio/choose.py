"""Filters of a table: which images are chosen, and how many each further click would choose.

Filters of boxes hold for one box together: small and class "car" means a small car.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np

from .asked import Asked, BadRequest
from .table import Table

SIZES = ("small", "medium", "large")
SIDES = (32.0, 96.0)
"""Sides in pixels of the image where COCO calls a box medium and large."""
ASPECTS = ("tall", "upright", "square", "wide", "flat")
RATIOS = (1 / 3, 1 / 1.25, 1.25, 3.0)
"""Width per height where one aspect ends and the next begins."""
COUNTS = ("0", "1", "2-4", "5-9", "10-19", "20-49", "50+")
COUNT_ENDS = (1, 2, 5, 10, 20, 50)
LABELS = ("labeled", "background", "no labels", "not used")
"""What an image has: boxes, an empty annotation, none, or an error that leaves it out."""
COPIES = ("near-duplicate", "in two splits")
BOX_FACETS = ("class", "size", "aspect")
IMAGE_FACETS = ("split", "count", "labels", "finding", "copies")
MOST_CELLS = 50_000_000
"""Images times values for which a cell each is faster than sorting."""
FACETS = (*IMAGE_FACETS, *BOX_FACETS)


@dataclass(frozen=True)
class Wanted:
    """Facet -> the values of it that are chosen; a facet that is missing chooses everything.
    name: a part of the file's name."""

    values: tuple[tuple[str, tuple[str, ...]], ...] = ()
    name: str = ""


def wanted_of(asked: Asked) -> Wanted:
    """The filters in an address: ``split=train&class=3&class=5``."""
    values = tuple((name, tuple(asked.query[name])) for name in FACETS if name in asked.query)
    return Wanted(values, asked.text("name", "").casefold())


@dataclass(frozen=True)
class Chosen:
    """images [k]: numbers of the chosen images.  matching [M] bool: boxes that fit the filters of
    boxes.  facets: name -> [(value, images that it would choose)]."""

    images: np.ndarray
    matching: np.ndarray
    facets: dict[str, list[tuple[str, int]]]


class Chooser:
    """Filters one table; what does not depend on the filters is computed once."""

    def __init__(self, table: Table) -> None:
        self.table = table
        sides = table.boxes[:, 2:] - table.boxes[:, :2]
        self._codes = {
            "class": table.labels,
            "size": np.digitize(np.sqrt(sides.prod(axis=1)), SIDES),
            "aspect": np.digitize(sides[:, 0] / np.maximum(sides[:, 1], 1e-6), RATIOS),
            "split": table.split,
            "count": np.digitize(table.box_counts, COUNT_ENDS),
            "labels": self._label_codes(),
        }
        self._names = {
            "class": tuple(str(number) for number in range(len(table.class_names))),
            "size": SIZES, "aspect": ASPECTS, "split": table.splits, "count": COUNTS,
            "labels": LABELS,
        }  # fmt: skip

    def choose(self, wanted: Wanted) -> Chosen:
        """The chosen images in the order of the table.  Raises BadRequest for unknown values."""
        values = dict(wanted.values)
        masks = {name: self._mask(name, chosen) for name, chosen in values.items()}
        images = {name: mask for name, mask in masks.items() if name in IMAGE_FACETS}
        boxes = {name: mask for name, mask in masks.items() if name in BOX_FACETS}
        named = self._named(wanted.name)
        both = named & self._all(images, len(self.table))
        matching = self._all(boxes, len(self.table.boxes))
        every = both & self._with_box(matching) if boxes else both
        facets = {}
        for name in FACETS:
            rest = {other: mask for other, mask in images.items() if other != name}
            left = named & self._all(rest, len(self.table)) if name in images else both
            rest = {other: mask for other, mask in boxes.items() if other != name}
            fits = self._all(rest, len(self.table.boxes)) if name in boxes else matching
            facets[name] = self._counted(name, left, fits, bool(rest))
        return Chosen(np.flatnonzero(every), matching, facets)

    def _counted(
        self, name: str, left: np.ndarray, fits: np.ndarray, by_box: bool
    ) -> list[tuple[str, int]]:
        """Images of each value of a facet.  left [n], fits [M]: what the other filters leave."""
        if name in BOX_FACETS:
            fits = fits & left[self.table.image]
            many = len(self._names[name])
            pairs = self.table.image[fits] * many + self._codes[name][fits]
            counts = _images_of_each(pairs, len(self.table), many)
            return list(zip(self._names[name], counts.tolist(), strict=True))
        if by_box:
            left = left & self._with_box(fits)
        if name == "finding":
            return [(id, int(left[rows].sum())) for id, rows in self.table.images_with.items()]
        if name == "copies":
            masks = (self.table.repeated, self.table.leaked)
            chosen = [int((left & mask).sum()) for mask in masks]
            return list(zip(COPIES, chosen, strict=True)) if self.table.groups is not None else []
        counts = np.bincount(self._codes[name][left], minlength=len(self._names[name])).tolist()
        return list(zip(self._names[name], counts, strict=True))

    def _mask(self, name: str, chosen: tuple[str, ...]) -> np.ndarray:
        """Whether each image or box has one of the chosen values."""
        if name == "finding":
            rows = [self.table.images_with[id] for id in chosen if id in self.table.images_with]
            return np.isin(np.arange(len(self.table)), np.concatenate([[], *rows]))
        known = COPIES if name == "copies" else self._names[name]
        strange = [value for value in chosen if value not in known]
        if strange:
            raise BadRequest(f"{name}={strange[0]}: expected one of {', '.join(known[:20])}")
        if name == "copies":
            both = zip(COPIES, (self.table.repeated, self.table.leaked), strict=True)
            return reduce(np.logical_or, [mask for value, mask in both if value in chosen])
        return np.isin(self._codes[name], [known.index(value) for value in chosen])

    def _with_box(self, matching: np.ndarray) -> np.ndarray:
        """Whether each image has a box that matches."""
        mask = np.zeros(len(self.table), bool)
        mask[self.table.image[matching]] = True
        return mask

    def _named(self, part: str) -> np.ndarray:
        if not part:
            return np.ones(len(self.table), bool)
        return np.array([part in name for name in self._file_names])

    @cached_property
    def _file_names(self) -> list[str]:
        return [record.path.name.casefold() for record in self.table.records]

    def _all(self, masks: dict[str, np.ndarray], length: int) -> np.ndarray:
        return reduce(np.logical_and, masks.values(), np.ones(length, bool))

    def _label_codes(self) -> np.ndarray:
        table = self.table
        codes = np.where(table.box_counts > 0, 0, np.where(table.unlabeled, 2, 1))
        return np.where(table.usable, codes, 3)


def _images_of_each(pairs: np.ndarray, images: int, many: int) -> np.ndarray:
    """Images that have each of ``many`` values.  pairs: image * many + value."""
    if images * many > MOST_CELLS:
        return np.bincount(np.unique(pairs) % many, minlength=many)
    cells = np.zeros(images * many, bool)
    cells[pairs] = True
    return cells.reshape(images, many).sum(axis=0)


def boxes_of(table: Table, number: int, matching: np.ndarray) -> list[dict[str, Any]]:
    """The boxes of an image for the browser."""
    part = slice(int(table.first_box[number]), int(table.first_box[number + 1]))
    return [
        {"box": [round(value, 2) for value in box], "class": label, "fits": fits}
        for box, label, fits in zip(
            table.boxes[part].tolist(), table.labels[part].tolist(), matching[part].tolist(),
            strict=True,
        )
    ]  # fmt: skip
