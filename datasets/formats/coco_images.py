"""Where the images of a COCO JSON lie: what its file names mean on this machine."""

from __future__ import annotations

import itertools
import os
import urllib.parse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from ..sets.listing import IMAGE_SUFFIXES
from .coco_rows import plain_id
from .pixel_rows import Note


@dataclass
class FoundImages:
    """paths: image id -> path.  sizes: image id -> recorded (width, height).  lost: ids of images
    that cannot be used, whose rows are dropped with them."""

    paths: dict[Any, str] = field(default_factory=dict)
    sizes: dict[Any, tuple[Any, Any]] = field(default_factory=dict)
    lost: set[Any] = field(default_factory=set)
    notes: list[Note] = field(default_factory=list)


class ImageFinder:
    """Finds files by the names in a JSON, only inside the data set's folder.

    root: that folder.  json: the file that names them, or the folder of such files.  folder: what
    they are relative to, if the user says it.  endings: put behind each name, for formats that
    leave them out.  by_end: the names are addresses on another machine, of which only the last
    parts say where a file lies.
    """

    def __init__(
        self,
        root: Path,
        json: Path,
        split: str,
        folder: str | None,
        endings: tuple[str, ...] = ("",),
        by_end: bool = False,
    ) -> None:
        self._endings = endings
        self._by_end = by_end
        self._root = Path(os.path.realpath(root if folder is None else root / folder))
        part = json.stem.rpartition("_")[2]  # CVAT: instances_default.json for images/default
        usual = ("", "images", f"images/{split}", f"images/{part}", split, "data", "JPEGImages")
        bases = [root / folder] if folder is not None else []
        bases += [json if json.is_dir() else json.parent, *(root / name for name in usual)]
        self._bases = list(dict.fromkeys(bases))

    def find(self, name: str) -> tuple[str, str] | None:
        """Path of an image and what had to be assumed ("" for nothing), or None."""
        for spelling, assumed in _ends(name) if self._by_end else _spellings(name):
            for base, ending in itertools.product(self._bases, self._endings):
                path = os.path.normpath(base / (spelling + ending))
                if self._is_inside(path) and os.path.isfile(path):
                    return path, assumed
        for without_ending, index in enumerate(self._indices):
            places = index.get(_key(_last_part(name), bool(without_ending)), [])
            if len(places) == 1:
                return places[0], f"{name!r} does not exist; {places[0]} is used"
        return None

    def _is_inside(self, path: str) -> bool:
        return any(Path(path).is_relative_to(base) for base in (self._root, *self._bases))

    @cached_property
    def _indices(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Lower case name -> files below the root, and the same without the ending."""
        names: dict[str, list[str]] = defaultdict(list)
        stems: dict[str, list[str]] = defaultdict(list)
        for folder, _, files in os.walk(self._root):
            for file in files:
                if file.lower().endswith(IMAGE_SUFFIXES):
                    names[_key(file, False)].append(os.path.join(folder, file))
                    stems[_key(file, True)].append(os.path.join(folder, file))
        return names, stems


def _key(name: str, stem: bool) -> str:
    return (os.path.splitext(name)[0] if stem else name).lower()


def _last_part(name: str) -> str:
    path = urllib.parse.urlsplit(name).path if "://" in name else name
    return PurePosixPath(urllib.parse.unquote(path).replace("\\", "/")).name


def _ends(name: str) -> Iterator[tuple[str, str]]:
    """An address without more and more of its first folders."""
    parts = PurePosixPath(name.replace("\\", "/").lstrip("/")).parts
    for skipped in range(len(parts)):
        yield "/".join(parts[skipped:]), ""


def _spellings(name: str) -> Iterator[tuple[str, str]]:
    """Ways to read a file name, as it is first."""
    yield name, ""
    if "\\" in name:
        yield name.replace("\\", "/"), f"{name!r}: backslashes are read as /"
    if "%" in name:
        decoded = urllib.parse.unquote(name)
        yield decoded, f"{name!r} does not exist; {decoded!r} is used"


def find_images(rows: list[Any], finder: ImageFinder) -> FoundImages:
    """The files of the ``images`` of a JSON."""
    found = FoundImages()
    owners: dict[str, Any] = {}
    for number, row in enumerate(rows):
        place = f"images[{number}]"
        id = plain_id(row.get("id")) if isinstance(row, dict) else None
        if id is None:
            found.notes.append(("image-id", "error", f"{place}: has no id; left out"))
            continue
        if id in found.paths or id in found.lost:
            message = f"{place}: id {id} occurs twice; both images are left out"
            found.notes.append(("image-id-twice", "error", message))
            found.paths.pop(id, None)
            found.lost.add(id)
            continue
        if not isinstance(row["id"], int):
            found.notes.append(("id-type", "info", f"{place}: id {row['id']!r} is read as {id}"))
        name = row.get("file_name")
        if not isinstance(name, str) or not name.strip():
            name = "/".join(str(row.get("coco_url") or "").split("/")[-2:])
            message = f"{place}: no file_name; the end of coco_url is used"
            found.notes.append(("image-name-from-url", "info", message))
        hit = finder.find(name) if name and "\0" not in name else None
        if hit is None:
            found.notes.append(("image-missing", "error", f"{place}: {name[:200]!r} was not found"))
            found.lost.add(id)
            continue
        path, assumed = hit
        if assumed:
            found.notes.append(("image-path", "warning", f"{place}: {assumed}"))
        if owners.setdefault(path, id) != id:
            message = f"{place}: {path} is listed more than once; it has the boxes of both"
            found.notes.append(("image-listed-twice", "warning", message))
        found.paths[id] = path
        found.sizes[id] = (row.get("width"), row.get("height"))
    return found
