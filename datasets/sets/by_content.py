"""A folder or an annotation file without a YAML: its data set, found by what the files contain.

Evidence decides, never a guess: exactly one family of labels must be there.  Two are an error that
lists both, and nothing is ever merged.  Splits are what the names of files and folders say (train,
val or valid, test); without such a name everything is one split.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...files.text import excerpt
from ..formats.reader import UnnamedClasses, find_reader
from .dataset import Dataset, DatasetError
from .families import PER_IMAGE, Candidate, arrange, arrange_file, darknet, short, without_names
from .kinds import KINDS, kind_of
from .source import DataSource, given_path
from .survey import Group, Survey, look

YAMLS = (".yaml", ".yml")


def open_by_content(source: DataSource, say: Callable[[str], None]) -> Dataset | None:
    """The data set of a folder or annotation file; None where a YAML describes it, or a name.

    Raises DatasetError for what is no data set, and for a folder with two.
    """
    place = given_path(source.data)
    if not source.data.strip():
        return None
    if os.path.isdir(place):
        if any(path.suffix in YAMLS for path in place.iterdir()):
            return None
        survey = look(place)
        if not survey.images and not survey.groups:
            return None  # the caller says so, and may know the word as a built-in name
        found = _only_one(place, survey)
    elif os.path.lexists(place) and place.suffix not in YAMLS:
        found = _of_file(source, place)
    else:
        return None
    return _dataset(found, place, source, say)


def _of_file(source: DataSource, file: Path) -> Candidate:
    try:
        kind = kind_of(file)
    except OSError as error:
        raise DatasetError(f"data: {file} cannot be read: {error.strerror}") from None
    known = KINDS[kind]
    if kind == "darknet":
        return darknet(file)
    if known.labels and kind not in PER_IMAGE:
        return arrange_file(kind, file, source.lone)
    fix = known.fix.format(name=file.name)
    if kind in PER_IMAGE:
        fix = "it describes one image: name the folder of all"
    raise DatasetError(f"data: {file} is {known.title}: {fix}")


def _dataset(
    found: Candidate, place: Path, source: DataSource, say: Callable[[str], None]
) -> Dataset:
    root = place if place.is_dir() else place.parent
    if source.images is not None:
        root = Path(os.path.commonpath((root, given_path(source.images))))
    splits = found.splits
    if set(splits) == {"train"}:  # nothing in the names says which split it is
        splits = {source.lone: splits["train"]}
    word = KINDS[found.kind].format
    name = place.stem if place.suffix else place.name
    data = Dataset(name, found.names, splits, root, place, format=word, options=found.options)
    data = source.applied(data)
    if not data.class_names:
        data = replace(data, class_names=_class_names(data, source))
    parts = ", ".join(
        f"{split}: {short(paths[0], root)}" for split, paths in data.splits.items() if paths
    )
    classes = ", ".join(data.class_names[:10])
    say(f"{place}: {found.told}; {parts}; classes: {excerpt(classes)}")
    return data


def _class_names(data: Dataset, source: DataSource) -> tuple[str, ...]:
    """The classes in the labels, else those of ``names=``.  Raises DatasetError."""
    if data.format == "yolo":
        if not source.listed_names:
            raise without_names(data.root, data.splits)
        return source.listed_names
    try:
        return find_reader(data.format).class_names(data)
    except UnnamedClasses as error:
        if source.listed_names:
            return source.listed_names
        raise DatasetError(f"{error}; give names=FIRST,SECOND in the order of the ids") from None


def _only_one(place: Path, survey: Survey) -> Candidate:
    """The one family of labels in a folder; raises DatasetError."""
    families: dict[str, list[Group]] = defaultdict(list)
    for group in survey.labels:
        families[group.kind].append(group)
    lists = [group for group in survey.groups if group.kind == "darknet"]
    if len(lists) == 1 and set(families) <= {"yolo"}:
        return darknet(lists[0].first)
    if not families:
        raise DatasetError(_no_labels(place, survey))
    if len(families) > 1:
        listed = " and ".join(
            f"{KINDS[kind].title} ({short(groups[0].first, place)})"
            for kind, groups in sorted(families.items())
        )
        words = sorted({KINDS[kind].format for kind in families})
        raise DatasetError(
            f"data: {place} holds {listed}: which is it? Name the file (data=FILE.json), or write "
            f"data.yaml with the line format: {' or '.join(words)}"
        )
    ((kind, groups),) = families.items()
    return arrange(kind, place, survey, groups)


def _no_labels(place: Path, survey: Survey) -> str:
    count = sum(map(len, survey.images.values()))
    for group in survey.groups:
        fix = KINDS[group.kind].fix
        if fix and group.kind not in ("text", "table", "json", "xml", "list", "empty"):
            return f"data: {group.first} is {KINDS[group.kind].title}: {fix}"
    if not count:
        return f"data: {place} holds no image and no annotation that det knows: name another folder"
    return (
        f"data: {place} holds {count} images and no labels: label them first (X-AnyLabeling, "
        "Label Studio, CVAT, ...) and export YOLO, COCO JSON or Pascal VOC"
    )
