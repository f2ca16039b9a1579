"""A file of an annotation tool, told as a COCO document that the COCO reader understands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ...sets.dataset import Dataset, DatasetError
from ...sets.listing import Stamp
from ..coco import CocoReader
from ..pixel_rows import Note, Row
from ..reader import stamp_of

Box = tuple[float, float, float, float]


class Document:
    """Images, classes and boxes as they are found, then ``to_coco``.

    names: the classes in order, where the file says one; others follow sorted by name.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = list(dict.fromkeys(names))
        self._images: list[dict[str, Any]] = []
        self._rows: list[dict[str, Any]] = []
        self._by_name: dict[str, int] = {}
        self._notes: list[Note] = []

    def image(
        self, name: str, size: tuple[Any, Any] = (None, None), labels: Path | None = None
    ) -> int:
        """The id of an image; the same name is the same image.  size: width and height.  labels:
        the file that annotates it, where each image has one.

        Raises DatasetError for an image that two files annotate.
        """
        if name not in self._by_name:
            id = self._by_name[name] = len(self._images) + 1
            row = {"id": id, "file_name": name, "width": size[0], "height": size[1]}
            self._images.append(row | ({"labels": labels} if labels else {}))
        number = self._by_name[name]
        first = self._images[number - 1].get("labels")
        if first != labels:
            raise DatasetError(f"{labels}: {first} annotates {name} too: move one of them away")
        return number

    def note(self, id: str, severity: str, message: str) -> None:
        """A finding of the file as a whole."""
        self._notes.append((id, severity, message))

    def broken(self, error: DatasetError) -> None:
        """A file of one image that cannot be read: the image is left out."""
        self.note("label-unreadable", "error", f"{error}; its image is left out")

    def box(
        self,
        image: int,
        name: Any,
        corners: Sequence[Any] | None,
        place: str,
        *,
        notes: Iterable[Note] = (),
        crowd: bool = False,
    ) -> None:
        """A box xyxy in pixels, its corners in any order.

        place: where it stands in the file.  corners: None where a note says why there is none.
        """
        told = list(notes)
        text = str(name).strip() if isinstance(name, str | int) else ""
        if not text:
            told.append(("class-name", "error", "no class"))
        bbox = None if corners is None else _bbox(corners, told)
        row = {"image_id": image, "category_id": text, "bbox": bbox, "place": place}
        self._rows.append({**row, "notes": told, "iscrowd": crowd})

    def to_coco(self) -> dict[str, Any]:
        """The COCO document."""
        used = {row["category_id"] for row in self._rows} - {""}
        names = [*self._names, *sorted(used - set(self._names))]
        ids = {name: number for number, name in enumerate(names, 1)}
        rows = [
            {**row, "id": number, "category_id": ids.get(row["category_id"], 1)}
            for number, row in enumerate(self._rows, 1)
        ]
        categories = [{"id": id, "name": name} for name, id in ids.items()]
        content = {"images": self._images, "annotations": rows, "categories": categories}
        return {**content, "notes": self._notes}


def _bbox(corners: Sequence[Any], notes: list[Note]) -> list[Any] | None:
    """[x, y, width, height] of two corners; what is no number is left to the COCO reader."""
    try:
        x1, y1, x2, y2 = (float(number) for number in corners)
    except (TypeError, ValueError, OverflowError):
        shown = ", ".join(str(number)[:20] for number in corners[:6])
        notes.append(("label-number", "error", f"expected four numbers, found {shown}"))
        return None
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        notes.append(("label-not-finite", "error", "a number is not finite"))
        return None
    if x2 < x1 or y2 < y1:
        message = "the corners are exchanged; read as the same rectangle"
        notes.append(("box-reversed", "warning", message))
        (x1, x2), (y1, y2) = sorted((x1, x2)), sorted((y1, y2))
    return [x1, y1, x2 - x1, y2 - y1]


def from_sides(x: Any, y: Any, width: Any, height: Any) -> tuple[Any, Any, Any, Any]:
    """Corners of a box by its top left corner and its sides; values that are no numbers are
    returned as they are, and ``Document.box`` says so."""
    try:
        return x, y, x + width, y + height
    except TypeError:
        return x, y, width, height


def hull(points: Iterable[Any]) -> Box | None:
    """The box around points; None where they are no points."""
    try:
        xs, ys = zip(*((float(x), float(y)) for x, y in points), strict=True)
    except (TypeError, ValueError, OverflowError):
        return None
    return min(xs), min(ys), max(xs), max(ys)


def no_box(shape: str) -> Note:
    """The finding of a shape without an area."""
    return ("label-shape", "error", f"a {shape[:40]} has no box")


class ForeignReader(CocoReader):
    """A format of one file per split.  ``suffixes``: what the file may end in."""

    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    in_order: ClassVar[bool] = False
    """Whether the file says the order of the classes; otherwise they are sorted by name."""

    @classmethod
    def accepts(cls, source: Path) -> bool:
        """A file with the right ending."""
        return source.suffix.lower() in cls.suffixes and source.is_file()

    @classmethod
    def class_names(cls, dataset: Dataset) -> tuple[str, ...]:
        """Those of all splits, sorted unless the files say an order."""
        names = super().class_names(dataset)
        return names if cls.in_order else tuple(sorted(names))


class FolderReader(ForeignReader):
    """A format of one folder per split with a file per image in it.

    The files are read at every start: a folder does not change when a file in it does.
    """

    @classmethod
    def accepts(cls, source: Path) -> bool:
        """A folder."""
        return source.is_dir()

    @classmethod
    def class_names(cls, dataset: Dataset) -> tuple[str, ...]:
        """Those of all splits, sorted unless the files say an order."""
        found: dict[str, None] = {}
        for folder in sorted({path for paths in dataset.splits.values() for path in paths}):
            categories = cls.document(folder, "")["categories"]
            found |= dict.fromkeys(category["name"] for category in categories)
        if not found:
            raise DatasetError(f"{dataset.yaml}: no class name in any label file")
        return tuple(found) if cls.in_order else tuple(sorted(found))

    @property
    def index_files(self) -> Sequence[Path]:
        return ()

    def sources(self, images: Sequence[str]) -> tuple[list[str], list[Stamp]]:
        """The label file of each image, and its stamp."""
        self._load()
        beside = self.suffixes[0]
        files = [self._labels.get(image) or Path(image).with_suffix(beside) for image in images]
        return [str(file) for file in files], [stamp_of(file) for file in files]

    def _parse(self, data: dict[str, Any]) -> dict[str, list[Row]]:
        rows = super()._parse(data)
        labels = {row["id"]: row["labels"] for row in data["images"]}
        self._labels = {path: labels[id] for id, path in self._paths.items()}
        return rows


def part(value: Any, *keys: Any) -> Any:
    """``value[key][key]...``, None where a part is missing or no mapping or list."""
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value


def entries(value: Any) -> list[Any]:
    """A list as it is, the values of a mapping, nothing otherwise."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
