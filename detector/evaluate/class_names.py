"""Classes by name: those of a model beside those of a data set, and those that a user types.

A model answers with numbers, and two lists of names in another order make every number another
object: so names are compared wherever a model meets data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ...datasets.formats.record import Record
from ..options.errors import UsageError


def first_difference(data: str, names: Sequence[str], model: str, known: Sequence[str]) -> str:
    """In words, what the ``names`` of ``data`` and those that ``model`` knows first differ in.

    Empty where they are the same.
    """
    if len(names) != len(known):
        return f"{data} has {len(names)} classes, {model} knows {len(known)}"
    for number, (there, here) in enumerate(zip(names, known, strict=True)):
        if there != here:
            return f"class {number} is {there!r} in {data}, {here!r} in {model}"
    return ""


def relabelled(
    records: list[Record],
    data: str,
    names: Sequence[str],
    model: str,
    known: Sequence[str],
    warn: Callable[[str], None],
) -> list[Record]:
    """The ``records`` of ``data``, labelled with the numbers that ``model`` knows its classes by.

    The same names in another order are matched.  As many names of which some differ may be
    spellings of the same classes: their numbers are kept.  Both are said.  Raises UsageError where
    one has more classes than the other.
    """
    difference = first_difference(data, names, model, known)
    if not difference:
        return records
    if len(names) != len(known):
        raise UsageError(f"{difference}: use the data it was trained for")
    if set(names) != set(known) or len(set(names)) < len(names):
        warn(f"{difference}: the numbers are compared, not the names; is this the right data?")
        return records
    warn(f"{difference}: the same names in another order, labels are matched by name")
    numbers = np.array([known.index(name) for name in names], np.int64)
    return [replace(record, labels=numbers[record.labels]) for record in records]


def class_numbers(text: str | None, names: Sequence[str]) -> set[int] | None:
    """``person,2`` -> class ids.  Raises UsageError for a class that does not exist."""
    if text is None:
        return None
    chosen = set()
    for word in (part.strip() for part in text.split(",")):
        if word in names:
            chosen.add(list(names).index(word))
        elif word.isdigit() and int(word) < len(names):
            chosen.add(int(word))
        else:
            raise UsageError(
                f"classes={text}: there is no class {word!r}; known are {', '.join(names)}"
            )
    return chosen
