"""One row of a COCO JSON -> a box, or the reason why it cannot be used.

``bbox`` is x, y, width, height in pixels from the top left corner, as floats.  If it is missing,
the polygons of ``segmentation`` give it.  CVAT writes the rectangle before its rotation, and the
angle under ``attributes``: the upright box around the rotated rectangle is used.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .pixel_rows import Note, Row


def read_row(place: str, label: int, row: dict[str, Any]) -> Row:
    """Read a row whose class is known.  Never raises.

    ``notes`` of a row are findings of a reader that told its file as a COCO document; a row with an
    error has no box.
    """
    notes: list[Note] = list(row.get("notes") or ())
    if any(severity == "error" for _, severity, _ in notes):
        return Row(place, label, None, False, math.nan, tuple(notes))
    corners = _corners(row, notes)
    crowd = bool(row.get("iscrowd"))
    if corners is not None and crowd:
        notes.append(("label-crowd", "info", "a crowd: not trained on, ignored in the evaluation"))
    area = _number(row.get("area"))
    if area is None or not math.isfinite(area) or area <= 0:
        area = math.nan
    return Row(place, label, corners, crowd, area, tuple(notes))


def _corners(row: dict[str, Any], notes: list[Note]) -> tuple[float, ...] | None:
    box = row.get("bbox")
    if not box:
        return _box_of_polygons(row.get("segmentation"), notes)
    if not isinstance(box, list) or len(box) != 4:
        shown = str(box)[:60]
        notes.append(("label-columns", "error", f"bbox is {shown}, expected [x, y, width, height]"))
        return None
    numbers = _numbers(box, notes)
    if numbers is None:
        return None
    x, y, width, height = numbers
    if width <= 0 or height <= 0:
        notes.append(("label-zero-area", "error", f"width {width:g}, height {height:g}: no area"))
        return None
    attributes = row.get("attributes")
    turn = _number(attributes.get("rotation")) if isinstance(attributes, dict) else None
    if not turn or not math.isfinite(turn):
        return x, y, x + width, y + height
    notes.append(("box-rotated", "warning", f"turned by {turn:g} degrees: the upright box around"))
    return _hull(x, y, width, height, turn)


def _numbers(box: list[Any], notes: list[Note]) -> list[float] | None:
    """The finite numbers of a list, None with a note if one is none."""
    numbers = []
    for value in box:
        number = _number(value)
        if number is None:
            notes.append(("label-number", "error", f"{str(value)[:40]!r} is not a number"))
            return None
        if not math.isfinite(number):
            notes.append(("label-not-finite", "error", f"{value} is not a finite number"))
            return None
        numbers.append(number)
    if str in map(type, box):
        notes.append(("number-as-text", "warning", "numbers in quotes; read as numbers"))
    return numbers


def _hull(x: float, y: float, width: float, height: float, turn: float) -> tuple[float, ...]:
    """The upright box around a rectangle that is turned about its center by degrees."""
    cos, sin = abs(math.cos(math.radians(turn))), abs(math.sin(math.radians(turn)))
    half_x, half_y = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    center_x, center_y = x + width / 2, y + height / 2
    return center_x - half_x, center_y - half_y, center_x + half_x, center_y + half_y


def _box_of_polygons(polygons: Any, notes: list[Note]) -> tuple[float, ...] | None:
    if isinstance(polygons, list) and polygons:
        parts = polygons if isinstance(polygons[0], list) else [polygons]
        try:
            points = np.concatenate([np.array(part, np.float64).reshape(-1, 2) for part in parts])
        except (ValueError, TypeError):
            points = np.zeros((0, 2))
        if len(points) >= 3 and np.isfinite(points).all() and (np.ptp(points, axis=0) > 0).all():
            notes.append(("box-from-mask", "info", "no bbox; the box around the mask is used"))
            return (*points.min(0).tolist(), *points.max(0).tolist())
    notes.append(("label-columns", "error", "no bbox and no polygon"))
    return None


def _number(value: Any) -> float | None:
    if type(value) is float:  # nearly all are, and there are millions
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def plain_id(value: Any) -> Any:
    """An id as a number where it is one: "3" and 3.0 are 3.  None for what is no id."""
    if type(value) is int:
        return value
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | str) else None
