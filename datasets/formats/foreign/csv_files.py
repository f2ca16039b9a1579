"""CSV tables with a row per box: TensorFlow, RetinaNet, VoTT, Open Images and spreadsheets.

The columns are found by their names, the delimiter by the first line; without a header line there
are six columns: image, x1, y1, x2, y2, class.  Columns that do not say what they are, are refused.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...sets.dataset import DatasetError
from ..pixel_rows import Row, join_rows
from ..reader import Annotation, register
from ..texts import read_text
from .document import Document, ForeignReader

_IMAGE = ("filename", "image", "imageid", "imagepath", "imagename", "path", "filepath",
          "file", "img")  # fmt: skip
_CLASS = ("class", "label", "labelname", "classname", "category", "name", "object")
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"),
)  # fmt: skip
_SIDES = (
    ("x", "y", "w", "h"), ("left", "top", "width", "height"), ("x", "y", "width", "height"),
    ("bboxx", "bboxy", "bboxwidth", "bboxheight"),
)  # fmt: skip
_NO_HEADER = ("filename", "xmin", "ymin", "xmax", "ymax", "class")
_DESCRIPTIONS = "*class-descriptions*.csv"
"""Where Open Images keeps the names of its machine ids: ``/m/01g317,Person``."""


class _Columns(NamedTuple):
    """Where the parts of a row are.  sides: the last two numbers are width and height."""

    image: int
    label: int
    box: tuple[int, ...]
    sides: bool
    size: tuple[int, ...]
    crowd: int | None
    shares: bool

    @property
    def last(self) -> int:
        """The last column that is read; a row may end before."""
        crowd = () if self.crowd is None else (self.crowd,)
        return max(self.image, self.label, *self.box, *self.size, *crowd)


@register("csv")
class CsvReader(ForeignReader):
    """One CSV per split."""

    suffixes = (".csv", ".txt", ".tsv")

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """The table; raises DatasetError where its columns are not understood."""
        rows = list(_rows(file))
        if not rows:
            raise DatasetError(f"{file}: is empty")
        columns, first = _columns(file, rows[0][1])
        names, order = _class_names(file)
        document = Document(order)
        for line, row in rows[first:]:
            cells = [*row, *[""] * (columns.last + 1 - len(row))]
            size = tuple(cells[place] for place in columns.size) if columns.size else (None, None)
            image = document.image(cells[columns.image].strip(), (size[0], size[1]))
            numbers = _numbers(cells, columns)
            if not any(numbers) and not cells[columns.label].strip():
                continue  # a background
            label = cells[columns.label].strip()
            crowd = columns.crowd is not None and cells[columns.crowd].strip() in ("1", "True")
            box = _corners(numbers, columns)
            document.box(image, names.get(label, label), box, f"line {line}", crowd=crowd)
        return {**document.to_coco(), "shares": columns.shares, "bare_names": columns.shares}

    def read(self, image: str, source: str, size: tuple[int, int]) -> Annotation:
        """The rows of an image; those of Open Images are shares of its sides."""
        if not self._shares:
            return super().read(image, source, size)
        height, width = size
        rows = [
            row if row.box is None else row._replace(box=_scaled(row.box, width, height))
            for row in self._load()[image]
        ]
        return join_rows(rows, size, self.file, [])

    def _parse(self, data: dict[str, Any]) -> dict[str, list[Row]]:
        self._shares = bool(data["shares"])
        return super()._parse(data)

    @property
    def records_sizes(self) -> bool:  # type: ignore[override]
        """Whether the table has columns for the size of the image."""
        return any(size[0] for size in self._sizes.values())


def _scaled(box: Sequence[float], width: int, height: int) -> tuple[float, ...]:
    return box[0] * width, box[1] * height, box[2] * width, box[3] * height


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row that is not empty."""
    text = read_text(file)
    head = text.partition("\n")[0]
    delimiter = max(";\t,", key=head.count)
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise DatasetError(f"{file}:{reader.line_num}: is no CSV: {error}") from error


def _columns(file: Path, head: Sequence[str]) -> tuple[_Columns, int]:
    """The columns, and the number of the first row of data."""
    words = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in head]
    image = _find(words, _IMAGE)
    if image is None:
        if len(head) == len(_NO_HEADER):
            return _Columns(0, 5, (1, 2, 3, 4), False, (), None, False), 0
        raise _unclear(file, head)
    box, sides = _box_columns(words)
    if not box:
        raise _unclear(file, head)
    label = _find(words, _CLASS)
    if label is None:
        raise DatasetError(f"{file}: no column holds a class; columns: {', '.join(head)[:120]}")
    names = [("imagewidth", "imageheight")] + ([] if sides else [("width", "height")])
    size = next((places for name in names if (places := _all(words, name))), ())
    crowd = words.index("isgroupof") if "isgroupof" in words else None
    return _Columns(image, label, box, sides, size, crowd, words[0] == "imageid"), 1


def _unclear(file: Path, head: Sequence[str]) -> DatasetError:
    shown = " ".join(head)[:120]
    return DatasetError(
        f"{file}: the columns {shown} do not say what they are; expected for example"
        f" filename,xmin,ymin,xmax,ymax,class"
    )


def _box_columns(words: Sequence[str]) -> tuple[tuple[int, ...], bool]:
    """Four columns, or one with all numbers; and whether they are x, y, width, height."""
    for names in _CORNERS:
        if found := _all(words, names):
            return found, False
    for names in _SIDES:
        if found := _all(words, names):
            return found, True
    return ((words.index("bbox"),), True) if "bbox" in words else ((), False)


def _find(words: Sequence[str], names: Sequence[str]) -> int | None:
    return next((words.index(name) for name in names if name in words), None)


def _all(words: Sequence[str], names: Sequence[str]) -> tuple[int, ...]:
    return tuple(words.index(name) for name in names) if set(names) <= set(words) else ()


def _numbers(cells: Sequence[str], columns: _Columns) -> list[str]:
    """The numbers of a box as text, with a point where a spreadsheet wrote a comma."""
    if len(columns.box) == 1:
        return re.findall(r"[-+.0-9eE]+", cells[columns.box[0]])
    return [cells[place].strip().replace(",", ".") for place in columns.box]


def _corners(numbers: Sequence[str], columns: _Columns) -> Sequence[Any]:
    if not columns.sides:
        return numbers
    try:
        x, y, width, height = map(float, numbers)
    except ValueError:
        return numbers  # the finding says which is no number
    return x, y, x + width, y + height


def _class_names(file: Path) -> tuple[dict[str, str], list[str]]:
    """Machine id -> name, and the classes in order, where a file beside the table says so."""
    descriptions = sorted(file.parent.glob(_DESCRIPTIONS))
    if descriptions:
        rows = [row for _, row in _rows(descriptions[0]) if len(row) > 1]
        names = {row[0]: row[1] for row in rows if row[0].startswith("/")}
        return names, list(names.values())
    classes = file.with_name("classes.csv")
    if classes.is_file() and classes != file:
        rows = [row for _, row in _rows(classes) if len(row) > 1 and row[1].strip().isdecimal()]
        return {}, [row[0] for row in sorted(rows, key=lambda row: int(row[1]))]
    return {}, []
