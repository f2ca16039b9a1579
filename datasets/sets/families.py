"""Which files of one family of labels are which split, as the tools of that family lay them out.

A split is what the name of a file or folder says (train, val or valid, test); CVAT says it inside
its XML, darknet in its lists.  Where nothing says it, everything is train.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..formats.texts import read_text
from .dataset import DatasetError
from .kinds import KINDS
from .survey import SPLIT_WORDS, Group, Survey, split_of

CLASS_LISTS = ("classes.txt", "obj.names", "labels.txt", "predefined_classes.txt")
PER_IMAGE = ("labelme", "supervisely", "dota", "kitti", "voc", "yolo")
"""Families with a file per image; the others have one file per split."""


@dataclass(frozen=True)
class Candidate:
    """One family of labels.  splits: split -> its sources.  told: what it is, in words.
    names: the class names where the labels do not say them.  options: of the Dataset."""

    kind: str
    told: str
    splits: dict[str, list[Path]]
    names: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def arrange(kind: str, place: Path, survey: Survey, groups: list[Group]) -> Candidate:
    """The splits of the only family in a folder.  Raises DatasetError where they are unclear."""
    if kind == "voc":
        return _voc(place, survey)
    if kind == "yolo":
        return _yolo(place, survey)
    if kind in PER_IMAGE:
        return Candidate(kind, KINDS[kind].title, _label_folders(place, groups))
    return _files(kind, place, groups)


def arrange_file(kind: str, file: Path, lone: str) -> Candidate:
    """The splits that one file holds.  lone: the split of a file that does not say it."""
    told = f"{KINDS[kind].title} {file.name}"
    if kind == "cvat":
        from ..formats.foreign.cvat import splits_in

        return Candidate(kind, told, {split: [file] for split in splits_in(file) or (lone,)})
    return Candidate(kind, told, {lone: [file]})


def darknet(file: Path) -> Candidate:
    """The lists and names of an ``obj.data``, whose paths mostly begin with a folder that exists
    only where darknet ran.  Raises DatasetError."""
    pairs = (line.partition("=") for line in read_text(file).splitlines())
    values = {key.strip(): value.strip() for key, _, value in pairs}
    splits = {}
    for key, split in (("train", "train"), ("valid", "val"), ("test", "test")):
        if key in values and (found := _named_by(file, values[key])) is not None:
            splits[split] = [found]
    names = _named_by(file, values.get("names", ""))
    if not splits or names is None:
        absent = values.get("names", "names") if splits else values.get("train", "train")
        raise DatasetError(
            f"data: {file} is {KINDS['darknet'].title}: {absent} was not found in {file.parent}: "
            "put the file there"
        )
    told = f"darknet, classes of {names.name}"
    return Candidate("yolo", told, splits, _lines(names), {"list_prefix": "data/"})


def _named_by(file: Path, name: str) -> Path | None:
    """The file beside ``file``, or below its folder, that it calls ``name``."""
    parts = Path(name.replace("\\", "/")).parts
    for skipped in range(len(parts)):
        found = Path(os.path.normpath(file.parent.joinpath(*parts[skipped:])))
        if found.is_relative_to(file.parent) and found.is_file():
            return found
    return None


def short(path: Path, root: Path) -> str:
    """A path as seen from ``root``."""
    return os.path.relpath(path, root)


def _files(kind: str, place: Path, groups: list[Group]) -> Candidate:
    """One file per split."""
    title = KINDS[kind].title
    files = [group.folder / name for group in groups for name in group.names]
    if len(files) == 1:
        return arrange_file(kind, files[0], split_of(files[0], place) or "train")
    by_split: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_split[split_of(file, place) or ""].append(file)
    for split, some in by_split.items():
        if not split or len(some) > 1:
            listed = ", ".join(short(path, place) for path in some[:5])
            what = f"for {split}" if split else "whose names do not say train or val"
            raise DatasetError(
                f"data: {place} holds {len(files)} files of the kind {title}; {what}: {listed}: "
                f"name them: data=TRAIN{files[0].suffix} val=VAL{files[0].suffix}"
            )
    return Candidate(kind, title, dict(sorted(by_split.items())))


def _label_folders(place: Path, groups: list[Group]) -> dict[str, list[Path]]:
    """Split -> the folder of its label files, which readers search with its sub-folders."""
    roots: dict[str, set[Path]] = defaultdict(set)
    for group in groups:
        split, root = _split_folder(group.folder, place)
        roots[split].add(root)
    if set(roots) == {""}:
        return {"train": [place]}
    for split, folders in roots.items():
        if not split or len(folders) > 1:
            listed = ", ".join(short(folder, place) for folder in sorted(folders)[:5])
            what = f"all for {split}" if split else "whose names do not say train or val"
            raise DatasetError(
                f"data: {place}: label files lie in {listed}, {what}: write data.yaml with the "
                "line format: and one folder per split"
            )
    return {split: sorted(folders) for split, folders in sorted(roots.items())}


def _split_folder(folder: Path, place: Path) -> tuple[str, Path]:
    """The split that a folder's path says, and the folder that says it; "" where none does."""
    while folder != place:
        for word in re.split("[^a-z]+", folder.name.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word], folder
        folder = folder.parent
    return "", place


def _voc(place: Path, survey: Survey) -> Candidate:
    lists = {
        split: [path]
        for split in ("train", "val", "test")
        for path in sorted(place.glob(f"ImageSets/Main/{split}.txt"))
    }
    if lists and (place / "JPEGImages").is_dir():
        return Candidate("voc", "Pascal VOC", lists)
    return Candidate("voc", "Pascal VOC", image_folders(place, survey))


def image_folders(place: Path, survey: Survey) -> dict[str, list[Path]]:
    """Split -> folders of images, by their names; all of them are train where none says so."""
    named: dict[str, list[Path]] = defaultdict(list)
    for folder in sorted(survey.images):
        named[split_of(folder / "x", place) or "train"].append(folder)
    if set(named) == {"train"} and len(named["train"]) > 1:
        return {"train": [place]}
    return dict(named)


def _yolo(place: Path, survey: Survey) -> Candidate:
    from ..formats.yolo import label_folder  # with NumPy, which other folders do without

    splits = image_folders(place, survey)
    homes = {Path(label_folder(str(folder))) for folder in survey.images}
    lists = [folder / name for name in CLASS_LISTS for folder in (place, *homes, *survey.images)]
    lists += sorted(place.glob("*.names"))
    found = list(dict.fromkeys(path for path in lists if path.is_file()))
    if not found:
        return Candidate("yolo", "YOLO text", splits)
    return Candidate("yolo", f"YOLO text, classes of {short(found[0], place)}", splits,
                     _lines(found[0]))  # fmt: skip


def without_names(place: Path, splits: dict[str, list[Path]]) -> DatasetError:
    """The error of YOLO labels whose classes have no names anywhere."""
    lines = [
        f"{split}: {', '.join(short(path, place) for path in paths)}"
        for split, paths in splits.items()
    ]
    return DatasetError(
        f"data: {place} holds YOLO labels without class names: give names=FIRST,SECOND in the "
        f"order of the ids, or write {shlex.quote(str(place / 'data.yaml'))} with the lines "
        f"{'; '.join(lines)}; names: [FIRST, SECOND]"
    )


def _lines(file: Path) -> tuple[str, ...]:
    """The class names in a file, one per line."""
    return tuple(line.strip() for line in read_text(file).splitlines() if line.strip())
