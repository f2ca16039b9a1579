"""Mistakes that all YOLO label files of a data set share: what they hold instead of cx cy w h.

One bad row is a slip; the same oddity in nearly all rows is another layout, and training on it
would be wrong from the first step.  The raw rows of some hundred files are judged together, so that
one message names the kind of the mistake.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...files.regular import read_regular

WRONG_IDS, WRONG_BOXES, WRONG_ROWS = "wrong-ids", "wrong-boxes", "wrong-rows"
SHARE = 0.9
"""Nearly all rows: this share of them."""
CROSSING = 0.25
"""Share of boxes over the border from which boxes may be corners; sound data has hardly any."""
FILE_BYTES = 64 * 1024
EDGE = 0.002
"""How far a box may leave the image by rounding, as a share of it."""


class Mistake(NamedTuple):
    """id of the finding, and its message: the kind first, then the evidence and the fix."""

    id: str
    message: str


def find_mistake(files: Sequence[Path], class_names: Sequence[str]) -> Mistake | None:
    """The mistake that nearly all rows of the label files share, None where there is none."""
    if _share([_head(file)[:2] in (b"\xff\xfe", b"\xfe\xff") for file in files]):
        message = "label files are text in UTF-16: save it as UTF-8 (in PowerShell: -Encoding utf8)"
        return Mistake(WRONG_ROWS, message)
    lines = [line for file in files for line in _lines(file)]
    if not lines:
        return None
    if (found := _separator(lines)) or (found := _columns(lines, class_names)):
        return found
    rows = [row for line in lines if (row := _numbers(line.split()))]
    boxes = np.array([row[1:5] for row in rows if len(row) in (5, 6)]).reshape(-1, 4)
    return _boxes(boxes) if len(boxes) >= SHARE * len(lines) else None


def find_shifted_ids(files: Sequence[Path], count: int) -> Mistake | None:
    """Class ids that count from 1.  files: with unknown classes.  count: classes in names.

    To be asked only where no row of the data set has class 0.
    """
    rows = [row for file in files for line in _lines(file) if (row := _numbers(line.split()))]
    ids = {row[0] for row in rows}
    if not ids or min(ids) < 1 or max(ids) != count:
        return None
    return Mistake(
        WRONG_IDS,
        f"class ids count from 1: they are 1..{count} and never 0, and det counts from 0; put a "
        "name for class 0 first in names (names: [unused, ...]), or export again with ids from 0",
    )


def _head(file: Path) -> bytes:
    try:
        return read_regular(file, FILE_BYTES)
    except OSError:
        return b""


def _lines(file: Path) -> list[str]:
    lines = _head(file).decode("utf-8-sig", errors="replace").splitlines()
    return [line.strip()[:2000] for line in lines if line.strip()]


def _numbers(fields: Sequence[str]) -> list[float]:
    """The fields as finite numbers; none where one is not."""
    try:
        values = [float(field) for field in fields]
    except ValueError:
        return []
    return values if bool(np.isfinite(values).all()) else []


def _share(matches: Sequence[bool]) -> bool:
    return bool(matches) and sum(matches) >= SHARE * len(matches)


def _separator(lines: list[str]) -> Mistake | None:
    expected = "expected spaces and points, as in 0 0.5 0.5 0.2 0.3: export YOLO again"
    for mark, name in ((";", "semicolons"), (",", "commas"), ("|", "bars")):
        if _share([len(_numbers(re.split(rf"\s*[{mark}]\s*", line))) >= 5 for line in lines]):
            return Mistake(
                WRONG_ROWS, f"columns are separated by {name} ({lines[0][:40]!r}): {expected}"
            )
    decimal = ["," in line and len(_numbers(line.replace(",", ".").split())) >= 5 for line in lines]
    if _share(decimal):
        message = f"numbers have a decimal comma ({lines[0][:40]!r}): {expected}"
        return Mistake(WRONG_ROWS, message)
    return None


def _columns(lines: list[str], class_names: Sequence[str]) -> Mistake | None:
    fields = [line.split() for line in lines]
    expected = "expected class cx cy w h"
    names = set(class_names)
    if _share([bool(f) and not _numbers(f[:1]) and len(_numbers(f[1:])) >= 4 for f in fields]):
        first = fields[0][0][:40]
        known = " (a name of names)" if first in names else ""
        ids = ", ".join(f"{number} for {name}" for number, name in enumerate(class_names[:3]))
        message = f"classes are written as words: {first!r}{known}; {expected} with ids: {ids}"
        return Mistake(WRONG_ROWS, message)
    rows = [_numbers(f) for f in fields]
    if _share([len(row) == 4 for row in rows]):
        message = f"rows have no class: 4 columns, {expected}; put 0 in front if there is one class"
        return Mistake(WRONG_ROWS, message)
    last = [len(r) == 5 and r[4] == int(r[4]) and 0 < r[0] < 1 and max(r[:4]) <= 1 for r in rows]
    if _share(last):
        return Mistake(WRONG_ROWS, f"the class is the last column ({lines[0][:40]!r}): {expected}")
    second = [len(r) == 6 and r[0] == int(r[0]) and _crosses(r[1:5]) for r in rows]
    fits = not any(len(r) == 6 and _crosses(r[2:]) for r in rows)
    if sum(second) >= CROSSING * len(rows) and fits:
        message = f"a score stands before the box ({lines[0][:40]!r}): {expected}, the score last"
        return Mistake(WRONG_ROWS, message)
    return None


def _crosses(box: Sequence[float]) -> bool:
    """Whether cx cy w h leave the image."""
    x, y, width, height = box
    return (
        min(x - width / 2, y - height / 2) < -EDGE or max(x + width / 2, y + height / 2) > 1 + EDGE
    )


def _boxes(boxes: np.ndarray) -> Mistake | None:
    """What the four numbers [N,4] are instead of cx cy w h."""
    outside = boxes.max(1) > 1 + EDGE
    if _share((boxes.max(1) > 1.5).tolist()):
        unit = "percent" if boxes.max() <= 100 and (boxes % 1 > 0).any() else "pixels"
        divide = "100" if unit == "percent" else "the width and height of the image"
        corners = boxes[:, 2:] > boxes[:, :2]
        shape = "x1 y1 x2 y2" if corners.all() and len(boxes) > 2 else "boxes"
        return Mistake(
            WRONG_BOXES,
            f"{shape} in {unit}, not in shares of the image: numbers up to {boxes.max():g}, "
            f"expected 0..1; export YOLO again, or divide by {divide}",
        )
    some = boxes[~outside & (boxes.min(1) >= -EDGE)]
    if len(some) < SHARE * len(boxes) or not len(some):
        return None
    low = some[:, :2] - some[:, 2:] / 2 < -EDGE
    high = some[:, :2] + some[:, 2:] / 2 > 1 + EDGE
    crossing = (low | high).any(1)
    many = crossing.sum() >= CROSSING * len(some) and (crossing.sum() >= 3 or crossing.all())
    told = f"{crossing.sum()} of {len(some)} boxes would cross the border as cx cy w h"
    if many and (some[:, 2:] > some[:, :2]).all(1).mean() >= 0.97:
        return Mistake(
            WRONG_BOXES,
            f"boxes are corners (x1 y1 x2 y2), not centers: {told}; export YOLO again: "
            "cx=(x1+x2)/2, cy=(y1+y2)/2, w=x2-x1, h=y2-y1",
        )
    inside = (some[:, :2] + some[:, 2:] <= 1 + EDGE).all(1).mean() >= 0.97
    if many and inside and not high.any():
        return Mistake(
            WRONG_BOXES,
            f"boxes begin at the top left corner (x y w h), not at the center: {told}, always "
            "left or above; export YOLO again: cx=x+w/2, cy=y+h/2",
        )
    return None
