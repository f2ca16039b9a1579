"""``names=``: classes renamed and merged while a data set is read; its files stay as they are.

``car,truck->vehicle, bike->bicycle`` holds two rules: each ends with an arrow and the new name.  A
new class stands where the first of its old classes stood, and numbers count on without gaps.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from .dataset import Dataset, DatasetError

ARROW = "->"
HOW = "expected OLD->NEW or OLD,OLD->NEW, in quotes: names='car,truck->vehicle'"

Rules = list[tuple[tuple[str, ...], str]]
"""The old names or numbers, and the new name, of each rule."""


def parse_rules(text: str) -> Rules:
    """The rules of ``names=``.  Raises DatasetError for text that is none."""
    rules: Rules = []
    waiting: list[str] = []
    for part in text.split(","):
        old, arrow, new = (word.strip() for word in part.partition(ARROW))
        if not old or (arrow and not new) or ARROW in new:
            raise DatasetError(f"names={text}: {HOW}")
        waiting.append(old)
        if arrow:
            rules.append((tuple(waiting), new))
            waiting = []
    if waiting:
        quotes = " (without quotes the shell takes the > away)" if text.endswith("-") else ""
        raise DatasetError(f"names={text}: {', '.join(waiting)} has no new name: {HOW}{quotes}")
    return rules


def rename(dataset: Dataset, text: str, say: Callable[[str], None] | None = None) -> Dataset:
    """The data set with its classes renamed.

    Raises DatasetError for a class that the data set does not have, that two rules name, or whose
    new name belongs to another class.  say: takes a line with the new classes.
    """
    rules = parse_rules(text)
    require_classes(text, rules, dataset.class_names)
    new = _applied(text, rules, dataset)
    if say is not None:
        say(_told(f"names={text}", new))
    return new


def _told(head: str, dataset: Dataset) -> str:
    classes = ", ".join(f"{number} {name}" for number, name in enumerate(dataset.class_names))
    return f"{head}: the classes are now {classes}"


def rename_all(datasets: Sequence[Dataset], text: str) -> list[Dataset]:
    """Several data sets with their classes renamed; one of them must have each old class.  Numbers
    name no class here: they mean another one in each data set."""
    rules = parse_rules(text)
    every = dict.fromkeys(name for data in datasets for name in data.class_names)
    require_classes(text, rules, every, numbers=False)
    renamed = []
    for data in datasets:
        own = [(tuple(word for word in old if word in data.class_names), new) for old, new in rules]
        renamed.append(_applied(text, own, data))
    return renamed


def as_trained(
    dataset: Dataset, text: object, names: Sequence[str], say: Callable[[str], None]
) -> Dataset:
    """The data set as a model saw it that was trained with ``names=text`` and has the classes
    ``names``; the data set itself where it has these classes already, or other ones.  say: as in
    ``rename``."""
    if not isinstance(text, str) or dataset.renumbering or dataset.class_names == tuple(names):
        return dataset
    try:
        renamed = rename(dataset, text)
    except DatasetError:  # another data set: the comparison of class names says what differs
        return dataset
    if len(names) > 1 and set(renamed.class_names) != set(names):  # one name: of single_cls
        return dataset
    say(_told(f"names={text} of the checkpoint", renamed))
    return renamed


def require_classes(
    text: str, rules: Rules, known: Iterable[str], *, numbers: bool = True
) -> None:
    """Raise DatasetError for an old name that is not ``known``, with the nearest one.  numbers:
    whether a class may be named by its number."""
    names = list(known)
    for word in (word for old, _ in rules for word in old):
        if word not in names and not (numbers and _is_number(word, names)):
            near = difflib.get_close_matches(word, names, 1, 0.5)
            there = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names[:20])}"
            raise DatasetError(f"names={text}: there is no class {word!r}; {there}")


def _is_number(word: str, names: Sequence[str]) -> bool:
    return word.isdecimal() and int(word) < len(names)


def _applied(text: str, rules: Rules, dataset: Dataset) -> Dataset:
    old_names = dataset.class_names
    new_names = list(old_names)
    owner: dict[int, str] = {}
    for old, new in rules:
        for word in old:
            number = old_names.index(word) if word in old_names else int(word)
            if owner.setdefault(number, new) != new:
                raise DatasetError(
                    f"names={text}: {old_names[number]!r} becomes {owner[number]!r} and {new!r}: "
                    "give it one new name"
                )
            new_names[number] = new
    for number, name in enumerate(old_names):
        if number not in owner and name in owner.values():
            merged = ",".join(o for old, new in rules if new == name for o in old)
            raise DatasetError(
                f"names={text}: there already is a class {name!r}; to merge with it, name it too: "
                f"names='{merged},{name}->{name}'"
            )
    classes = tuple(dict.fromkeys(new_names))
    numbers = tuple(classes.index(name) for name in new_names)
    return replace(dataset, class_names=classes, renumbering=numbers, names_in_files=old_names)
