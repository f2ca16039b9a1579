"""COCO JSON: one file per split with images, categories and annotations.

    format: coco
    train: train/_annotations.coco.json
    val: valid/_annotations.coco.json
    images: pictures              # optional: the folder that file names are relative to
    names: [cat, dog]             # optional: chooses the order of the classes

Classes are matched by name.  Without ``names`` they are ordered by category id over all splits, and
the class with which Roboflow groups the others is left out: the lowest id, named by another
category as its supercategory, and without a row in any split.  Images lie under ``images``, beside
the JSON or in the usual folders; an image is never looked for outside the data set's folder.
Crowds and areas go to COCO's evaluation.  Not supported: masks in run lengths without a ``bbox``.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from ..sets.dataset import Dataset, DatasetError
from ..sets.finding import Finding
from ..sets.listing import IMAGE_SUFFIXES, Listing, Stamp
from .coco_images import ImageFinder, find_images
from .coco_rows import plain_id, read_row
from .keep import keep
from .pixel_rows import Note, Row, join_rows, size_notes
from .reader import Annotation, Reader, register, stamp_of
from .texts import load_json


@register("coco")
class CocoReader(Reader):
    """One COCO JSON."""

    keys = ("images",)
    records_sizes: ClassVar[bool] = True
    """Whether the file says how large its images are."""

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """The file as a COCO document; formats that can be told as one read theirs here.

        Raises DatasetError for what is no such file.
        """
        return _read_json(file)

    def __init__(self, dataset: Dataset, split: str) -> None:
        super().__init__(dataset, split)
        if len(self.paths) != 1:
            raise DatasetError(f"{dataset.yaml}: {split}: expected one COCO JSON per split")
        self.file = self.paths[0]
        self._lock = threading.Lock()
        self._rows: dict[str, list[Row]] | None = None
        self._sizes: dict[str, tuple[Any, Any]] = {}
        self._paths: dict[Any, str] = {}
        self._listing = Listing()

    @classmethod
    def accepts(cls, source: Path) -> bool:
        """A JSON file."""
        return source.suffix.lower() == ".json"

    @classmethod
    def class_names(cls, dataset: Dataset) -> tuple[str, ...]:
        """The categories of all splits by ascending id, without a class that only groups."""
        summaries = cls._summaries(dataset)
        categories = _all_categories(summaries.values())
        grouping = _grouping(categories, summaries.values())
        names = tuple(dict.fromkeys(row[1] for row in categories if row is not grouping))
        if not names:
            file, one = next(iter(summaries.items()))
            why = one["notes"][0][2] if one["notes"] else "categories is empty"
            raise DatasetError(f"{file}: {why}: there are no class names")
        return names

    @classmethod
    def class_findings(cls, dataset: Dataset) -> list[Finding]:
        """Categories without a name, two with one name, and a class that only groups the others."""
        summaries = cls._summaries(dataset)
        categories = _all_categories(summaries.values())
        first = next(iter(summaries))
        notes = [(file, *note) for file, one in summaries.items() for note in one["notes"]]
        grouping = _grouping(categories, summaries.values())
        if grouping is not None and grouping[1] not in dataset.class_names:
            told = f"class {grouping[0]} ({grouping[1]}) only groups the others and has no box"
            notes.append((first, "class-grouping", "info", f"{told}: left out"))
        owners: dict[str, int] = {}
        for id, name, _ in categories:
            if owners.setdefault(name, id) != id and (id, name) != (grouping or ())[:2]:
                told = f"categories {owners[name]} and {id} are both called {name!r}: one class"
                notes.append((first, "class-name-twice", "warning", told))
        return [Finding(id, severity, file, 0, text) for file, id, severity, text in notes]

    @classmethod
    def _summaries(cls, dataset: Dataset) -> dict[Path, dict[str, Any]]:
        """File -> its categories, those with a row, and what is wrong with them."""
        files = sorted({path for paths in dataset.splits.values() for path in paths})
        kind = f"{cls.__name__}-categories"
        return {file: keep(kind, [file], partial(cls._summary, file)) for file in files}

    @classmethod
    def _summary(cls, file: Path) -> dict[str, Any]:
        data = cls.document(file, "")
        notes: list[Note] = []
        classes = _categories(file, data, notes)
        return {"classes": classes, "used": sorted(_used(data), key=str), "notes": notes}

    @property
    def index_files(self) -> Sequence[Path]:
        return self.paths

    def list_images(self) -> Listing:
        """The images of the JSON that were found."""
        self._load()
        return Listing(dict(self._listing.images), list(self._listing.findings))

    def sources(self, images: Sequence[str]) -> tuple[list[str], list[Stamp]]:
        """The JSON, for every image."""
        return [str(self.file)] * len(images), [stamp_of(self.file)] * len(images)

    def read(self, image: str, source: str, size: tuple[int, int]) -> Annotation:
        """The rows of an image, cut at its border."""
        rows = self._load()[image]
        sized = self.records_sizes or all(self._sizes[image])
        notes = size_notes(image, self._sizes[image], size) if sized else []
        return join_rows(rows, size, self.file, notes)

    def _finding(self, id: str, severity: str, message: str) -> Finding:
        return Finding(id, severity, self.file, 0, message)

    def _load(self) -> dict[str, list[Row]]:
        with self._lock:
            if self._rows is None:
                self._rows = self._parse(self.document(self.file, self.split))
            return self._rows

    def _parse(self, data: dict[str, Any]) -> dict[str, list[Row]]:
        folder = self.dataset.options.get("images")
        endings = ("", *IMAGE_SUFFIXES) if data.get("bare_names") else ("",)
        by_end = bool(data.get("by_end"))
        finder = ImageFinder(self.dataset.root, self.file, self.split, folder, endings, by_end)
        found = find_images(data["images"], finder)
        self._paths = found.paths
        notes = (*data.get("notes", ()), *found.notes)
        self._listing = Listing(findings=[self._finding(*note) for note in notes])
        self._listing.images = {path: stamp_of(path) for path in sorted(set(found.paths.values()))}
        rows: dict[str, list[Row]] = {path: [] for path in self._listing.images}
        for id, path in found.paths.items():
            self._sizes[path] = found.sizes[id]
        classes = self._classes(data)
        for number, row in enumerate(data["annotations"]):
            self._add_row(rows, found.paths, found.lost, classes, number, row)
        return rows

    def _add_row(
        self,
        rows: dict[str, list[Row]],
        paths: dict[Any, str],
        lost: set[Any],
        classes: dict[Any, int],
        number: int,
        row: Any,
    ) -> None:
        """Append a row to those of its image; paths, lost: image ids with and without a file."""
        place = f"annotations[{number}]"
        if not isinstance(row, dict):
            self._note("label-columns", "error", f"{place}: expected a mapping")
            return
        place = row.get("place") or f"{place} (id {str(row.get('id'))[:40]})"
        image, label = plain_id(row.get("image_id")), classes.get(plain_id(row.get("category_id")))
        if image in lost:
            return
        if image not in paths:
            told = str(row.get("image_id"))[:40]
            self._note("annotation-image", "error", f"{place}: there is no image with id {told}")
            return
        for key, read in (("image_id", image), ("category_id", row.get("category_id"))):
            if isinstance(row.get(key), str | float) and (number := plain_id(read)) is not None:
                message = f"{place}: {key} {str(row[key])[:40]!r} is read as {number}"
                self._note("id-type", "info", message)
        if label is None:
            told = str(row.get("category_id"))[:40]
            notes = (("label-class-range", "error", f"there is no category with id {told}"),)
            rows[paths[image]].append(Row(place, 0, None, False, 0.0, notes))
            return
        rows[paths[image]].append(read_row(place, label, row))

    def _note(self, id: str, severity: str, message: str) -> None:
        self._listing.findings.append(self._finding(id, severity, message))

    def _classes(self, data: dict[str, Any]) -> dict[Any, int]:
        """Category id -> class id; raises DatasetError for a used class that has no place."""
        names = self.dataset.class_names
        places = {name: names.index(name) for name in names}
        used = _used(data)
        classes = {}
        for id, name, _ in _categories(self.file, data, []):
            if name in places:
                classes[id] = places[name]
            elif id in used:
                close = difflib.get_close_matches(name, places, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise DatasetError(
                    f"{self.dataset.yaml}: names: class {name!r} of {self.file} is missing{hint}"
                )
        return classes


def _read_json(file: Path) -> dict[str, Any]:
    """The content of a COCO file; raises DatasetError for anything else."""
    data = load_json(file)
    if isinstance(data, dict) and data.get("categories"):
        data.setdefault("annotations", [])  # images without boxes
    for key in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise DatasetError(f"{file}: is no COCO annotation: expected a list under {key!r}")
    return data


def _used(data: dict[str, Any]) -> set[Any]:
    """The category ids that have a row."""
    rows = data["annotations"]
    return {plain_id(row.get("category_id")) for row in rows if isinstance(row, dict)}


Category = tuple[int, str, str]
"""Id, name and supercategory."""


def _categories(file: Path, data: dict[str, Any], notes: list[Note]) -> list[Category]:
    """The categories; one without an id or a name is a note.  Raises DatasetError for an id with
    two names."""
    names: dict[int, str] = {}
    categories = []
    for number, row in enumerate(data["categories"]):
        id = plain_id(row.get("id")) if isinstance(row, dict) else None
        name = row.get("name") if isinstance(row, dict) else None
        if not isinstance(id, int) or not isinstance(name, str) or not name.strip():
            message = (
                f"categories[{number}]: expected a number id and a name; its boxes are dropped"
            )
            notes.append(("class-name", "error", message))
            continue
        if names.setdefault(id, name) != name:
            raise DatasetError(f"{file}: category id {id} has two names: {names[id]!r}, {name!r}")
        categories.append((id, name.strip(), str(row.get("supercategory"))))
    return categories


def _all_categories(summaries: Iterable[dict[str, Any]]) -> list[Category]:
    """The categories of all splits by ascending id."""
    rows = {(id, name, above) for one in summaries for id, name, above in one["classes"]}
    return sorted(rows)


def _grouping(
    categories: Sequence[Category], summaries: Iterable[dict[str, Any]]
) -> Category | None:
    """The first category, if it only groups the others."""
    if not categories:
        return None
    id, name, above = categories[0]
    used = {number for one in summaries for number in one["used"]}
    groups = any(other[2] == name for other in categories[1:] if other[0] != id)
    return categories[0] if above == "none" and id not in used and groups else None
