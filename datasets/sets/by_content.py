"""A folder or an annotation file without a YAML: its data set, found by what the files contain.

Evidence decides, never a guess: exactly one family of labels must be there.  Two are an error that
lists both, and nothing is ever merged.  Splits are what the names of files and folders say (train,
val or valid, test); without such a name everything is one split.
"""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..formats.reader import find_reader
from ..formats.texts import read_text
from .dataset import Dataset, DatasetError
from .kinds import KINDS, kind_of
from .source import DataSource, given_path
from .survey import Group, Survey, look, split_of

CLASS_LISTS = ("classes.txt", "obj.names", "labels.txt", "predefined_classes.txt")
YAMLS = (".yaml", ".yml")


@dataclass(frozen=True)
class Candidate:
    """One family of labels.  splits: split -> its sources.  told: what it is, in words.
    names: the class names where the labels do not say them."""

    kind: str
    told: str
    splits: dict[str, list[Path]]
    names: tuple[str, ...] = ()


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
    if kind == "coco":
        return Candidate("coco", f"COCO JSON {file.name}", {source.lone: [file]})
    known = KINDS[kind]
    fix = known.fix.format(name=file.name)
    if kind in ("voc", "yolo"):
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
    data = Dataset(name, found.names, splits, root, place, format=word)
    data = source.applied(data)
    if not data.class_names:
        data = replace(data, class_names=find_reader(word).class_names(data))
    parts = ", ".join(
        f"{split}: {_short(paths[0], root)}" for split, paths in data.splits.items() if paths
    )
    say(f"{place}: {found.told}; {parts}; classes: {', '.join(data.class_names[:10])}")
    return data


def _short(path: Path, root: Path) -> str:
    return os.path.relpath(path, root)


def _only_one(place: Path, survey: Survey) -> Candidate:
    """The one family of labels in a folder; raises DatasetError."""
    families: dict[str, list[Group]] = defaultdict(list)
    for group in survey.labels:
        families[group.kind].append(group)
    if not families:
        raise DatasetError(_no_labels(place, survey))
    if len(families) > 1:
        listed = " and ".join(
            f"{KINDS[kind].title} ({_short(groups[0].first, place)})"
            for kind, groups in sorted(families.items())
        )
        raise DatasetError(
            f"data: {place} holds {listed}: which is it? Name the JSON (data=FILE.json), or write "
            "data.yaml with the line format: yolo, coco or voc"
        )
    ((kind, groups),) = families.items()
    known = KINDS[kind]
    if not known.format:
        first = _short(groups[0].first, place)
        raise DatasetError(f"data: {place} holds {known.title} ({first}): {known.fix}")
    return {"coco": _coco, "voc": _voc, "yolo": _yolo}[kind](place, survey, groups)


def _no_labels(place: Path, survey: Survey) -> str:
    count = sum(map(len, survey.images.values()))
    darknet = next((group for group in survey.groups if group.kind == "darknet"), None)
    if darknet is not None:
        return f"data: {place} is a {KINDS['darknet'].title} folder: {KINDS['darknet'].fix}"
    for group in survey.groups:
        fix = KINDS[group.kind].fix
        if count and fix and group.kind not in ("text", "table", "json", "xml", "list", "empty"):
            return f"data: {group.first} is {KINDS[group.kind].title}: {fix}"
    if not count:
        return f"data: {place} holds no image and no annotation that det knows: name another folder"
    return (
        f"data: {place} holds {count} images and no labels: label them first (X-AnyLabeling, "
        "Label Studio, CVAT, ...) and export YOLO, COCO JSON or Pascal VOC"
    )


def _coco(place: Path, survey: Survey, groups: list[Group]) -> Candidate:
    files = [group.folder / name for group in groups for name in group.names]
    by_split: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_split[split_of(file, place) or ("train" if len(files) == 1 else "")].append(file)
    for split, some in by_split.items():
        if not split or len(some) > 1:
            listed = ", ".join(_short(path, place) for path in some[:5])
            what = f"for {split}" if split else "and their names do not say train or val"
            raise DatasetError(
                f"data: {place} holds {len(some)} COCO JSONs {what}: {listed}; name them: "
                "data=TRAIN.json val=VAL.json"
            )
    return Candidate("coco", "COCO JSON", dict(sorted(by_split.items())))


def _voc(place: Path, survey: Survey, groups: list[Group]) -> Candidate:
    lists = {
        split: [path]
        for split in ("train", "val", "test")
        for path in sorted(place.glob(f"ImageSets/Main/{split}.txt"))
    }
    if lists and (place / "JPEGImages").is_dir():
        return Candidate("voc", "Pascal VOC", lists)
    return Candidate("voc", "Pascal VOC", _folders(place, survey))


def _folders(place: Path, survey: Survey) -> dict[str, list[Path]]:
    """Split -> folders of images, by their names; all of them are train where none says so."""
    named: dict[str, list[Path]] = defaultdict(list)
    for folder in sorted(survey.images):
        named[split_of(folder / "x", place) or "train"].append(folder)
    if set(named) == {"train"} and len(named["train"]) > 1:
        return {"train": [place]}
    return dict(named)


def _yolo(place: Path, survey: Survey, groups: list[Group]) -> Candidate:
    from ..formats.yolo import label_folder  # with NumPy, which other folders do without

    splits = _folders(place, survey)
    homes = {Path(label_folder(str(folder))) for folder in survey.images}
    lists = [folder / name for name in CLASS_LISTS for folder in (place, *homes, *survey.images)]
    found = list(dict.fromkeys(path for path in lists if path.is_file()))
    lines = [
        f"{split}: {', '.join(_short(path, place) for path in paths)}"
        for split, paths in splits.items()
    ]
    if not found:
        raise DatasetError(
            f"data: {place} holds YOLO labels without class names: write "
            f"{shlex.quote(str(place / 'data.yaml'))} with the lines {'; '.join(lines)}; "
            "names: [FIRST, SECOND] in the order of the ids"
        )
    names = tuple(line.strip() for line in read_text(found[0]).splitlines() if line.strip())
    return Candidate("yolo", f"YOLO text, classes of {_short(found[0], place)}", splits, names)
