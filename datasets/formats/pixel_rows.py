"""Rows of annotations in pixels, whatever file they come from, on their way into an image.

A Row is read before the size of its image is known; then it is cut at the border, compared with the
others and joined to an Annotation.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...files.regular import open_regular
from ..images.header import read_header
from ..sets.finding import Finding
from .reader import Annotation

ROUNDING = 1e-3
"""How far a box may leave the image by rounding, as a share of the image."""

Note = tuple[str, str, str]
"""Id, severity and message of a finding."""


class Row(NamedTuple):
    """A row of an image.

    place: ``annotations[12] (id 13)``.  label: class id.  box: xyxy pixels, not cut; None if it
    cannot be used.  notes: what was found in it.
    """

    place: str
    label: int
    box: tuple[float, ...] | None
    crowd: bool
    area: float
    notes: tuple[Note, ...]


def cut(row: Row, size: tuple[int, int]) -> tuple[tuple[float, ...] | None, tuple[Note, ...]]:
    """The box inside an image of ``size`` (height, width), and all notes of the row."""
    if row.box is None:
        return None, row.notes
    x1, y1, x2, y2 = row.box  # one by one: an array for each of a million rows takes far longer
    if x2 <= x1 or y2 <= y1:  # next to 1e308, a width of 1 is none
        return None, (*row.notes, ("label-zero-area", "error", "no width or no height"))
    height, width = map(float, size)
    left, right = min(max(x1, 0.0), width), min(max(x2, 0.0), width)
    top, bottom = min(max(y1, 0.0), height), min(max(y2, 0.0), height)
    if right <= left or bottom <= top:
        return None, (*row.notes, ("label-outside", "error", "the box lies outside the image"))
    far = max(abs(x1 - left), abs(x2 - right)) > width * ROUNDING
    if far or max(abs(y1 - top), abs(y2 - bottom)) > height * ROUNDING:
        message = "the box reaches over the border of the image; it is cut there"
        return (left, top, right, bottom), (*row.notes, ("label-clipped", "warning", message))
    return (left, top, right, bottom), row.notes


def join_rows(
    rows: Iterable[Row], size: tuple[int, int], file: Path, notes: Iterable[Note]
) -> Annotation:
    """The annotation of an image of ``size`` (height, width).

    file: where the findings are.  notes: of the image itself; with an error the rows are not used.
    """
    findings = [Finding(id, severity, file, 0, message) for id, severity, message in notes]
    boxes: dict[tuple[Any, ...], Row] = {}
    for row in () if any(found.severity == "error" for found in findings) else rows:
        box, told = cut(row, size)
        for id, severity, message in told:
            findings.append(Finding(id, severity, file, 0, f"{row.place}: {message}"))
        if box is None:
            continue
        first = boxes.setdefault((row.label, *box), row)
        if first is not row:
            message = f"{row.place}: the same as {first.place}; used once"
            findings.append(Finding("label-duplicate", "warning", file, 0, message))
    array = np.array([box[1:] for box in boxes], np.float64).reshape(-1, 4)
    area = np.array([row.area for row in boxes.values()], np.float64)
    sides = array[:, 2:] - array[:, :2]
    return Annotation(
        array.astype(np.float32),
        np.array([box[0] for box in boxes], np.int64),
        list(dict.fromkeys(findings)),  # a box with two classes has its findings once
        np.array([row.crowd for row in boxes.values()], bool),
        np.where(np.isnan(area), sides.prod(1), area).astype(np.float32),
    )


def size_notes(image: str, recorded: tuple[Any, Any], size: tuple[int, int]) -> list[Note]:
    """Whether the recorded (width, height) is that of the file: boxes of another size are wrong."""
    width, height = recorded
    if not width or not height:
        message = f"{image}: the size is not recorded; that of the file is used"
        return [("size-unknown", "info", message)]
    try:
        noted = (int(height), int(width))
    except (ValueError, TypeError, OverflowError):
        noted = (0, 0)
    if noted == size:
        return []
    told = f"{image}: recorded {width} x {height}, the file has {size[1]} x {size[0]}"
    left_out = "the image is left out"
    if noted == size[::-1] and _is_sideways(image):
        fix = "rotate the file, or record the upright size"
        message = f"{told} after its EXIF rotation; {left_out}; {fix}"
        return [("size-unrotated", "error", message)]
    return [("size-differs", "error", f"{told}: the boxes belong to another image; {left_out}")]


def _is_sideways(image: str) -> bool:
    """Whether the EXIF orientation of an image swaps its sides."""
    try:
        with open_regular(image) as file:
            header = read_header(file)
    except OSError:
        return False
    return header is not None and header.size != (header.height, header.width)
