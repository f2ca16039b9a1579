"""Classes by name: those of a model, those of a data set, and those that a user types.

A model answers with class numbers.  If model and data list the same names in another order, every
number means another class, so names are compared wherever a model meets data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ...datasets.batches.tiles import Tiles, parts
from ...datasets.formats.record import Record
from ...files.counted import counted
from ..options.errors import UsageError

SINGLE_CLASS = ("object",)
"""Name of the class that ``single_cls=True`` makes of all."""


class ClassNames(NamedTuple):
    """The classes of a data set or model, by number, and what to call it in messages."""

    owner: str
    names: Sequence[str]


@dataclass(frozen=True)
class GroundTruth:
    """What detections are compared with.

    records: annotated images, labeled with the class numbers of the model.  class_names: of the
    classes that are measured.  single_cls: all classes are one, in ``records`` already; the labels
    of detections must be merged too.  tiles: where the images that the model sees lie in those of
    ``records``; None: they are the same.
    """

    records: Sequence[Record]
    class_names: Sequence[str]
    single_cls: bool = False
    tiles: Tiles | None = None

    @property
    def seen(self) -> Sequence[Record]:
        """What the model sees: the records, or their tiles."""
        return self.records if self.tiles is None else parts(self.records, self.tiles)


def ground_truth(
    records: Sequence[Record],
    data: ClassNames,
    model: ClassNames,
    single_cls: bool,
    warn: Callable[[str], None],
) -> GroundTruth:
    """The ``records`` of a data set as the ground truth for a model.

    If both list the same names in another order, or the model knows more classes than the data, all
    of theirs among them, labels are matched by name.  If the same number of
    names differ in spelling, numbers are compared.  Both cases are passed to ``warn``.
    Raises UsageError if the numbers of classes differ.
    """
    if single_cls:
        names = model.names if len(model.names) == 1 else SINGLE_CLASS
        return GroundTruth([record.single_class() for record in records], names, single_cls=True)
    difference = first_difference(data, model)
    if set(data.names) < set(model.names) and len(set(data.names)) == len(data.names):
        warn(f"{difference}: labels are matched by name, and the other classes are not measured")
        return GroundTruth(_by_name(records, data, model), model.names)
    if len(data.names) != len(model.names):
        raise UsageError(f"{difference}: use the data set that the model was trained on")
    if not difference:
        return GroundTruth(records, model.names)
    if set(data.names) != set(model.names) or len(set(data.names)) < len(data.names):
        warn(f"{difference}: classes are compared by number; check that this is the right data set")
        return GroundTruth(records, model.names)
    warn(f"{difference}: the names are the same in another order; labels are matched by name")
    return GroundTruth(_by_name(records, data, model), model.names)


def _by_name(records: Sequence[Record], data: ClassNames, model: ClassNames) -> list[Record]:
    """The records with the class numbers of the model."""
    numbers = np.array([list(model.names).index(name) for name in data.names], np.int64)
    return [replace(record, labels=numbers[record.labels]) for record in records]


def first_difference(data: ClassNames, model: ClassNames) -> str:
    """The first difference between two lists of classes, in words; empty if they are the same."""
    if len(data.names) != len(model.names):
        ours, theirs = len(data.names), len(model.names)
        return f"{data.owner} has {counted(ours, 'class')}, {model.owner} has {theirs}"
    for number, (there, here) in enumerate(zip(data.names, model.names, strict=True)):
        if there != here:
            return f"class {number} is {there!r} in {data.owner}, {here!r} in {model.owner}"
    return ""


def class_number(word: str, names: Sequence[str]) -> int | None:
    """A class by name or else by number; None for a class that does not exist."""
    if word in names:
        return list(names).index(word)
    return int(word) if word.isdigit() and int(word) < len(names) else None


def class_numbers(text: str | None, names: Sequence[str]) -> tuple[int, ...] | None:
    """``person,2`` -> class ids, ascending; None for all classes.

    Raises UsageError for a class that does not exist.
    """
    if text is None:
        return None
    chosen = set()
    for word in (part.strip() for part in text.split(",")):
        if (number := class_number(word, names)) is None:
            raise UsageError(
                f"classes={text}: unknown class {word!r}, choose from {', '.join(names)}"
            )
        chosen.add(number)
    return tuple(sorted(chosen))


def same_classes(
    chosen: Sequence[int], model: Sequence[str], data: Sequence[str]
) -> tuple[int, ...]:
    """Classes of a model, by number, as the numbers of a data set: matched by name where both
    have the same names."""
    if set(model) != set(data):
        return tuple(chosen)
    return tuple(list(data).index(model[number]) for number in chosen)
