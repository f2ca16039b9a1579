"""A new version of a data set's labels: a folder ``labels@2`` beside the old ones, which stay.

The folder holds one COCO JSON per split, the ``data.yaml`` that describes them, a list of the
images of each split for other tools, and a note on where the version comes from.  The images stay
where they are.  It appears under its name when everything in it is on the disk, and an existing
version is never replaced.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files.atomic import sync, sync_folder, write_atomically, write_bytes
from ...files.json_text import read_note
from ..formats.record import Record
from ..sets.dataset import Dataset, DatasetError
from ..sets.survey import VERSION
from .convert import describe
from .folder import new_folder
from .writers import coco_document

NOTE = "version.json"
DATA = "data.yaml"
FIRST = 2
"""The number of the first version that is written; the labels of the user are version 1."""


class VersionExists(DatasetError):
    """Somebody else has written this version in the meantime."""


@dataclass(frozen=True)
class Version:
    """number: 1 for the user's own labels.  data: what to open.  note: what is known about it."""

    number: int
    data: Path
    note: Mapping[str, Any]

    @property
    def name(self) -> str:
        """``labels@2``, or the name of the user's own file or folder."""
        return self.data.parent.name if self.number >= FIRST else self.data.name


def versions_of(data: Path) -> list[Version]:
    """The versions of a data set, the user's own first.  data: any of them: a YAML or a folder."""
    first = first_version(data)
    folder = home_of(first)
    found = [Version(1, first, {})]
    for number, here in _numbered(folder):
        note = read_note(here / NOTE)
        if note.get("of") == _name_in(folder, first) and (here / DATA).is_file():
            found.append(Version(number, here / DATA, note))
    return found


def first_version(data: Path) -> Path:
    """The user's own data set that ``data`` is a version of; itself if it is no version."""
    here = data.parent
    if data.name != DATA or not VERSION.fullmatch(here.name):
        return data
    name = read_note(here / NOTE).get("of")
    first = here.parent / name if isinstance(name, str) else data
    return first if first.parent == here.parent or first == here.parent else data


def home_of(first: Path) -> Path:
    """The folder in which versions of a data set are written."""
    return first if first.is_dir() else first.parent


def free_number(data: Path) -> int:
    """The number that the next version gets: two data sets in one folder share the numbers."""
    return 1 + max((n for n, _ in _numbered(home_of(first_version(data)))), default=FIRST - 1)


def write_version(
    dataset: Dataset, data: Path, splits: Mapping[str, Sequence[Record]], number: int,
    note: Mapping[str, Any],
) -> Version:  # fmt: skip
    """Write ``labels@number`` and return it.

    dataset: gives the class names and the license.  data: the version it is made from.  splits: all
    images with their new labels; a split without images is left out.  Raises VersionExists, and
    OSError where the folder cannot be written; nothing is left behind then.
    """
    first = first_version(data)
    home = home_of(first)
    out = home / f"labels@{number}"
    splits = {split: records for split, records in splits.items() if records}
    about = {
        "of": _name_in(home, first), "number": number, "from": versioned_name(data),
        "saved": time.strftime("%Y-%m-%d %H:%M:%S"), **note,
    }  # fmt: skip
    if os.path.lexists(out):
        raise VersionExists(f"{out} exists: it was saved in the meantime")
    try:
        with new_folder(out) as folder:
            lines = _write_splits(folder, home, splits, dataset.class_names)
            _write_json(folder / NOTE, about)
            describe(folder / DATA, dataset, lines)
            _flush(folder / DATA)
            sync_folder(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise VersionExists(f"{out} exists: it was saved in the meantime") from None
    sync_folder(home)
    return Version(number, out / DATA, about)


def versioned_name(data: Path) -> str:
    """What a version is called in notes: ``labels@2``, or the name of the user's file or folder."""
    return data.parent.name if VERSION.fullmatch(data.parent.name) else data.name


def _write_splits(
    folder: Path, home: Path, splits: Mapping[str, Sequence[Record]], names: Sequence[str]
) -> dict[str, Any]:
    """The JSONs of a version and the lines of its YAML."""
    folders = {str(record.path.parent) for records in splits.values() for record in records}
    common = Path(os.path.commonpath(list(folders)))
    lines: dict[str, Any] = {"format": "coco", "images": _reached(common, home)}
    for split, records in splits.items():
        named = [(record.path.relative_to(common).as_posix(), record) for record in records]
        _write_json(folder / f"{split}.json", coco_document(named, names))
        lines[split] = f"{split}.json"
        paths = [str(record.path) for record in records]
        listed = "".join(f"{path}\n" for path in paths if "\n" not in path)
        write_bytes(folder / f"{split}.txt", os.fsencode(listed))
    return lines


def _reached(common: Path, home: Path) -> str:
    """The folder of the images as the YAML names it: relative where it lies in the data set, so
    that both can be moved together."""
    real, root = os.path.realpath(common), os.path.realpath(home)
    if common == Path(real) and Path(real).is_relative_to(root):
        return os.path.join("..", os.path.relpath(real, root))
    return str(common)


def _numbered(home: Path) -> list[tuple[int, Path]]:
    """Number and folder of everything called ``labels@N``, by number."""
    try:
        names = [entry.name for entry in os.scandir(home) if VERSION.fullmatch(entry.name)]
    except OSError:
        return []
    return sorted((int(re.sub(r"\D", "", name)), home / name) for name in names)


def _name_in(home: Path, first: Path) -> str:
    return "." if first == home else first.name


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    write_atomically(file, lambda sink: sink.write(json.dumps(content).encode()))


def _flush(file: Path) -> None:
    with file.open("rb") as opened:
        sync(opened.fileno())
