"""YOLO label files: one text file per image, one row per object, numbers as shares of the image.

A row is ``class cx cy w h`` or a polygon, ``class x1 y1 x2 y2 x3 y3 ...``, which becomes the box
around it.  A sixth column (a score or track id) is ignored, and so are the keypoints of a data set
with ``kpt_shape``.  A file without objects, or no file at all, is a background.  Rows are judged
one by one: a row that cannot be used is dropped alone and becomes a Finding with its line, and what
is corrected in memory (a box cut at the border, a repeated row) is a Finding too; files are never
rewritten.

Most files are clean, so a whole file is first read at once; only if that fails is it read again row
by row.  Not supported: rotated boxes (read as polygons).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...files.counted import counted
from ...files.regular import read_regular
from ..boxes import clip_boxes, polygon_to_box, xywhn_to_xyxy
from ..sets.dataset import Dataset, DatasetError
from ..sets.finding import Finding
from ..sets.listing import IMAGE_SUFFIXES, Stamp
from .reader import Annotation, Reader, register, stamp_of
from .yolo_mistakes import find_mistake, find_shifted_ids

ROUNDING = 1e-3
"""How far a coordinate may leave 0..1 by rounding, as a share of the image."""

CORNER_SLACK = 0.1
"""How far the corner of a polygon may leave 0..1: the box around it is cut at the border."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
OBB_COLUMNS = 9
"""A class and four corners, as rotated boxes are written."""
COLUMNS = ("class", "cx", "cy", "w", "h")

SUSPICIOUS = {"label-columns", "label-encoding", "label-number", "label-coordinates",
              "label-class-integer"}  # fmt: skip
"""Findings from which a mistake that all files share may follow."""
WRONG_SHARE, CUT_SHARE = 0.9, 0.2
"""Share of the label files with such findings, or with boxes over the border, from which all are
looked at together."""
MOST_FILES = 300

MOST_BYTES = 16 * 2**20
"""A larger label file is not read."""
MOST_ROW = 200_000
"""Bytes of a row: a polygon of ten thousand points."""

NO_LABELS = ("classes.txt", "labels.txt", "obj.names", "readme.txt")
"""Text files that labeling tools leave among label files."""


@register("yolo")
class YoloReader(Reader):
    """YOLO label files beside folders or lists of images."""

    keys = ("kpt_shape",)

    def __init__(self, dataset: Dataset, split: str) -> None:
        super().__init__(dataset, split)
        self._keypoint_columns = _keypoint_columns(dataset)

    def sources(self, images: Sequence[str]) -> tuple[list[str], list[Stamp]]:
        """The label file of each image, and its stamp."""
        folders: dict[str, str] = {}
        files = []
        for image in images:  # plain text work, because this runs for every image
            folder, _, name = image.rpartition(os.sep)
            if folder not in folders:
                folders[folder] = label_folder(folder)
            files.append(f"{folders[folder]}{os.sep}{name.rpartition('.')[0]}.txt")
        return files, [stamp_of(file) for file in files]

    def read(self, image: str, source: str, size: tuple[int, int]) -> Annotation:
        """What the label file ``source`` says."""
        return read_labels(
            Path(source),
            size=size,
            num_classes=self.dataset.num_classes,
            keypoint_columns=self._keypoint_columns,
        )

    def unused(self, images: Iterable[Path]) -> list[Finding]:
        """Label files whose image does not exist, in the folders where labels were expected."""
        findings = []
        for folder in sorted({image.parent for image in images}):
            labels = Path(label_folder(str(folder)))
            if labels == folder or not labels.is_dir():  # other texts may lie beside images
                continue
            known = {
                entry.stem for entry in folder.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES
            }
            for file in sorted(labels.glob("*.txt")):
                if file.stem not in known and file.name.lower() not in NO_LABELS:
                    message = f"no image of that name in {folder}"
                    findings.append(_finding(file, 0, "label-orphan", message, "warning"))
        return findings

    def shared_mistake(
        self, flawed: Mapping[str, set[str]], count: int, labels: set[int]
    ) -> Finding | None:
        """Ids from 1, corners, pixels, commas, ...: as yolo_mistakes.py tells them apart."""
        ranged = [Path(s) for s, ids in flawed.items() if "label-class-range" in ids]
        found = None
        if ranged and 0 not in labels:
            found = find_shifted_ids(_sample(ranged), self.dataset.num_classes)
        wrong = [Path(s) for s, ids in flawed.items() if ids & SUSPICIOUS]
        cut = [Path(s) for s, ids in flawed.items() if "label-clipped" in ids]
        suspects = wrong if len(wrong) >= WRONG_SHARE * count else cut
        enough = suspects is wrong or len(cut) >= CUT_SHARE * count
        if found is None and suspects and enough:
            found = find_mistake(_sample(suspects), self.dataset.class_names)
        first = (ranged or suspects or [self.dataset.yaml])[0]
        return Finding(found.id, "error", first, 0, found.message) if found else None


def _sample(files: list[Path]) -> list[Path]:
    """Some of the files, at even distances."""
    return files[:: -(-len(files) // MOST_FILES)]


def _keypoint_columns(dataset: Dataset) -> int:
    """How many columns of a row are keypoints, by ``kpt_shape: [keypoints, 2 or 3]``."""
    shape: Any = dataset.options.get("kpt_shape")
    if shape is None:
        return 0
    if not (
        isinstance(shape, list)
        and [type(number) for number in shape] == [int, int]
        and shape[0] > 0
        and shape[1] in (2, 3)
    ):
        expected = "[number of keypoints, 2 or 3]"
        raise DatasetError(f"{dataset.yaml}: kpt_shape: expected {expected}, found {shape!r}")
    return int(shape[0] * shape[1])


class _Fault(NamedTuple):
    """Why a row is dropped."""

    id: str
    message: str


class _Row(NamedTuple):
    """A usable row: its line, class and box (center, width, height as shares of the image)."""

    line: int
    label: int
    box: tuple[float, ...]


def label_folder(folder: str) -> str:
    """Where the label files of a folder of images are: its last ``images`` becomes ``labels``."""
    parts = folder.split(os.sep)
    for place in range(len(parts) - 1, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return os.sep.join(parts)


def read_labels(
    path: Path, *, size: tuple[int, int], num_classes: int, keypoint_columns: int = 0
) -> Annotation:
    """The annotation in one label file.

    size: (height, width) of its image.  keypoint_columns: columns behind the box that are ignored.
    A missing file is a background and no finding.  Never raises for what is in the file; a file
    that cannot be read is a finding.
    """
    try:
        data = read_regular(path, MOST_BYTES + 1)
    except FileNotFoundError:
        return _empty([])
    except OSError as error:
        return _empty([_finding(path, 0, "label-unreadable", f"cannot be read: {error.strerror}")])
    if len(data) > MOST_BYTES:
        message = f"more than {MOST_BYTES:,} bytes: not the labels of one image"
        return _empty([_finding(path, 0, "label-too-large", message)])
    data = data.removeprefix(BYTE_ORDER_MARK)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _empty([_finding(path, 0, "label-encoding", "is UTF-16 text; save it as UTF-8")])
    clean = _read_clean(data, size, num_classes, keypoint_columns)
    read = (
        Annotation(*clean, [])
        if clean
        else _read_rows(path, data, size, num_classes, keypoint_columns)
    )
    if not clean and not keypoint_columns:
        return read._replace(findings=[*_rotated(path, data), *read.findings])
    widths = {len(row.split()) for row in data.split(b"\n")} if keypoint_columns else set()
    if 5 + keypoint_columns in widths:
        found = _finding(path, 0, "label-keypoints", "the keypoints are ignored", "info")
        return read._replace(findings=[found, *read.findings])
    return read


def _empty(findings: list[Finding]) -> Annotation:
    return Annotation(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), findings)


def _finding(path: Path, line: int, id: str, message: str, severity: str = "error") -> Finding:
    return Finding(id=id, severity=severity, path=path, line=line, message=message)


def _read_clean(
    data: bytes, size: tuple[int, int], num_classes: int, keypoint_columns: int = 0
) -> tuple[np.ndarray, np.ndarray] | None:
    """Boxes and labels of a file of good five-column rows; None if any row needs a closer look."""
    lines = data.splitlines()
    if max(map(len, lines), default=0) > MOST_ROW:
        return None
    rows = [fields for line in lines if (fields := line.split())]
    if keypoint_columns:
        rows = [_without_keypoints(row, keypoint_columns) for row in rows]
    if not rows:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    if set(map(len, rows)) != {5} or b"_" in data:  # float() would read 1_0 as 10
        return None
    try:
        values = np.array([list(map(float, row)) for row in rows])  # [N,5]
    except ValueError:
        return None
    classes, shares = values[:, 0], values[:, 1:]
    # NaN fails every comparison, so the good case must be the true one.
    if not (classes.min() >= 0 and classes.max() < num_classes):
        return None
    if not (shares.min() >= -ROUNDING and shares.max() <= 1 + ROUNDING):
        return None
    labels = classes.astype(np.int64)
    boxes, over, flat = _to_pixels(shares, size)
    if over.any() or flat.any() or (labels != classes).any():
        return None
    if len(set(map(tuple, values.tolist()))) < len(values):
        return None
    return boxes, labels


def _to_pixels(
    shares: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes [N,4] clipped to the image; which reached over its border [N]; which are flat [N]."""
    whole = xywhn_to_xyxy(shares, size)
    boxes = clip_boxes(whole, size)
    height, width = size
    slack = np.array((width, height, width, height), np.float32) * ROUNDING
    over: np.ndarray = np.any(np.abs(whole - boxes) > slack, axis=1)
    flat: np.ndarray = np.any(boxes[:, 2:] <= boxes[:, :2], axis=1)
    return boxes, over, flat


def _rotated(path: Path, data: bytes) -> list[Finding]:
    """A finding per row, where every row is a class and four corners and one box is rotated."""
    rows = [(n, fields) for n, row in enumerate(data.splitlines(), 1) if (fields := row.split())]
    sides = [(set(fields[1::2]), set(fields[2::2])) for _, fields in rows]
    upright = all(len(xs) <= 2 and len(ys) <= 2 for xs, ys in sides)
    if upright or {len(fields) for _, fields in rows} != {OBB_COLUMNS}:
        return []
    message = "four corners: the upright box around them is used"
    return [_finding(path, number, "box-rotated", message, "info") for number, _ in rows]


def _without_keypoints(row: list[bytes], columns: int) -> list[bytes]:
    return row[:5] if len(row) == 5 + columns else row


def _read_rows(
    path: Path, data: bytes, size: tuple[int, int], num_classes: int, keypoint_columns: int = 0
) -> Annotation:
    """The same row by row, with a finding for each row that is dropped or corrected."""
    findings: list[Finding] = []
    rows: dict[tuple[int, tuple[float, ...]], _Row] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        if len(line) > MOST_ROW:
            message = f"a row of {len(line):,} bytes, expected {MOST_ROW:,} at most"
            findings.append(_finding(path, number, "label-columns", message))
            continue
        fields = _without_keypoints(line.split(), keypoint_columns)
        if not fields:
            continue
        if len(fields) == 6:
            extra = fields.pop().decode(errors="replace")
            message = f"a 6th column ({_short(extra)}: a score or track id) is not used"
            findings.append(_finding(path, number, "label-extra-column", message, "warning"))
        row = _read_row(number, fields, num_classes, polygons=not keypoint_columns)
        if isinstance(row, _Fault):
            findings.append(_finding(path, number, row.id, row.message))
            continue
        first = rows.setdefault((row.label, row.box), row)
        if first is not row:
            message = f"the same as line {first.line}; used once"
            findings.append(_finding(path, number, "label-duplicate", message, "warning"))
    return _place_rows(path, list(rows.values()), size, findings)


def _place_rows(
    path: Path, rows: list[_Row], size: tuple[int, int], findings: list[Finding]
) -> Annotation:
    """Rows to pixels: flat boxes are dropped, boxes over the border are cut; both are findings."""
    shares = np.array([row.box for row in rows], np.float64).reshape(-1, 4)
    labels = np.array([row.label for row in rows], np.int64)
    boxes, over, flat = _to_pixels(shares, size)
    for row, is_over, is_flat in zip(rows, over, flat, strict=True):
        if is_flat:
            findings.append(_finding(path, row.line, "label-zero-area", "the box has no area"))
        elif is_over:
            message = "the box reaches over the border of the image; it is cut there"
            findings.append(_finding(path, row.line, "label-clipped", message, "warning"))
    findings.sort(key=lambda finding: finding.line)
    return Annotation(boxes[~flat], labels[~flat], findings)


def _read_row(
    number: int, fields: list[bytes], num_classes: int, *, polygons: bool
) -> _Row | _Fault:
    columns = len(fields)
    if columns != 5 and not (polygons and columns >= 7 and columns % 2):
        rest = "a class and 3 or more points" if polygons else "with the keypoints of kpt_shape"
        expected = f"5 (class cx cy w h) or {rest}"
        return _Fault("label-columns", f"{counted(columns, 'column')}, expected {expected}")
    values = []
    for field in fields:
        value = _read_number(field)
        if isinstance(value, _Fault):
            return value
        values.append(value)
    fault = _class_fault(values[0], num_classes) or _coordinate_fault(values)
    if fault:
        return fault
    box = values[1:] if columns == 5 else _polygon_box(values[1:])
    return _Row(number, int(values[0]), tuple(box))


def _read_number(field: bytes) -> float | _Fault:
    try:
        text = field.decode()
    except UnicodeDecodeError:
        return _Fault("label-encoding", f"{_short(repr(field)[1:])} is not UTF-8 text")
    try:
        value = float(field) if b"_" not in field else None
    except ValueError:
        value = None
    if value is None:
        return _Fault("label-number", f"{_short(repr(text))} is not a number")
    if not math.isfinite(value):
        return _Fault("label-not-finite", f"{_short(text)} is not a finite number")
    return value


def _short(quoted: str) -> str:
    """Text in quotes, cut where it is long."""
    return quoted if len(quoted) <= 40 else quoted[:36] + "...'"


def _class_fault(value: float, num_classes: int) -> _Fault | None:
    if value != int(value):
        return _Fault("label-class-integer", f"class {value:g} is not a whole number")
    if not 0 <= value < num_classes:
        known = f"0..{num_classes - 1}" if num_classes > 1 else "0 only"
        return _Fault("label-class-range", f"class {value:g} is unknown; the classes are {known}")
    return None


def _coordinate_fault(values: list[float]) -> _Fault | None:
    names = COLUMNS if len(values) == 5 else ("class", *("xy"[i % 2] for i in range(len(values))))
    slack = ROUNDING if len(values) == 5 else CORNER_SLACK
    for name, value in zip(names[1:], values[1:], strict=False):
        if not -slack <= value <= 1 + slack:
            message = f"{name} is {value:g}, expected a share of the image, 0..1 (not pixels)"
            return _Fault("label-coordinates", message)
    if len(values) == 5 and min(values[3:]) <= 0:
        return _Fault("label-zero-area", f"width {values[3]:g} and height {values[4]:g}: no area")
    return None


def _polygon_box(coordinates: list[float]) -> list[float]:
    """Center, width and height of the box around a polygon."""
    x1, y1, x2, y2 = polygon_to_box(np.array(coordinates).reshape(-1, 2)).tolist()
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
