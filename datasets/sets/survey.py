"""What lies in a folder and below it: images, and groups of annotation files with their kinds."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from .kinds import KINDS, kind_of
from .listing import IMAGE_SUFFIXES, NOT_DATA

MOST_FILES = 200_000
"""A larger folder is looked at up to this many files."""
SAMPLES = 3
"""Files of a group that are opened."""
ANNOTATIONS = (".json", ".jsonl", ".xml", ".csv", ".txt", ".tsv", ".data", ".ndjson", ".manifest",
               ".tfrecord", ".tfrecords", ".record", ".parquet")  # fmt: skip
NO_LABELS = ("classes.txt", "labels.txt", "obj.names", "readme.txt", "requirements.txt",
             "_classes.csv", "license.txt", "licence.txt", "notes.txt", "readme.dataset.txt",
             "readme.roboflow.txt", "labelmap.txt")  # fmt: skip
"""Text files that tools leave among labels, and that are none."""
SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val",
               "validation": "val", "test": "test", "testing": "test"}  # fmt: skip
VERSION = re.compile(r"labels@[0-9]+")
"""Folders of corrected labels that det has written beside a data set: data sets of their own."""
LARGE_GROUP = 8
"""Files of a group that are listed one by one; more are one annotation per image."""


@dataclass(frozen=True)
class Group:
    """Annotation files of one folder with one ending, and what they are (a key of KINDS)."""

    folder: Path
    suffix: str
    names: list[str]
    kind: str

    @property
    def first(self) -> Path:
        return self.folder / self.names[0]

    @property
    def stems(self) -> set[str]:
        return {os.path.splitext(name)[0] for name in self.names}


@dataclass
class Survey:
    """images: folder -> names.  others: (folder, lower-case suffix) -> names of annotations."""

    root: Path
    images: dict[Path, list[str]] = field(default_factory=dict)
    others: dict[tuple[Path, str], list[str]] = field(default_factory=dict)

    @cached_property
    def groups(self) -> list[Group]:
        """The annotation files by folder, ending and kind."""
        found = []
        for (folder, suffix), names in sorted(self.others.items()):
            some = [name for name in names if name.lower() not in NO_LABELS]
            if not some:
                continue
            if len(some) <= LARGE_GROUP or suffix == ".json":  # each may be something else
                kinds: dict[str, list[str]] = {}
                for name in some[:200]:
                    kinds.setdefault(_kind(folder / name), []).append(name)
                if len(some) <= 200:
                    found += [Group(folder, suffix, part, kind) for kind, part in kinds.items()]
                    continue
            counted = Counter(_kind(folder / name) for name in some[:SAMPLES])
            found.append(Group(folder, suffix, some, counted.most_common(1)[0][0]))
        return found

    @property
    def labels(self) -> list[Group]:
        """The groups that say where objects are."""
        return [group for group in self.groups if KINDS[group.kind].labels]


def look(root: Path) -> Survey:
    """What lies below a folder; links to folders are not followed, versions of labels left out."""
    survey = Survey(root)
    seen = 0
    for here, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name[0] != "." and name != NOT_DATA)
        folders[:] = [name for name in folders if not VERSION.fullmatch(name)]
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            if name[0] == ".":
                continue
            if suffix in IMAGE_SUFFIXES:
                survey.images.setdefault(Path(here), []).append(name)
            elif suffix in ANNOTATIONS:
                survey.others.setdefault((Path(here), suffix), []).append(name)
        seen += len(files)
        if seen > MOST_FILES:
            break
    return survey


def split_of(path: Path, root: Path) -> str | None:
    """The split that the name of a file or one of its folders says, the nearest word first."""
    for part in (path.stem, *reversed(path.relative_to(root).parts[:-1])):
        words = [SPLIT_WORDS[w] for w in re.split("[^a-z]+", part.lower()) if w in SPLIT_WORDS]
        if words:
            return words[0]
    return None


def _kind(path: Path) -> str:
    try:
        return kind_of(path)
    except OSError:
        return "binary"
