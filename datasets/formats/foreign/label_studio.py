"""Label Studio's JSON and JSON-MIN: tasks with annotations, in percent of the image."""

from __future__ import annotations

import math
import urllib.parse
from pathlib import Path
from typing import Any

from ...sets.dataset import DatasetError
from ..pixel_rows import Note
from ..reader import register
from ..texts import load_json
from .document import Document, ForeignReader, entries, hull, no_box, part

_KEYS = {"rectanglelabels": "rectangle", "polygonlabels": "polygon", "ellipselabels": "ellipse"}
"""Type of a result -> its shape; the labels stand under the same key."""
_WITHOUT_BOX = ("keypointlabels", "brushlabels", "vectorlabels")


@register("labelstudio")
class LabelStudioReader(ForeignReader):
    """A task that nobody annotated is left out: it is no background.  Its shapes say how large an
    image is, so one without shapes has no recorded size."""

    records_sizes = False

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """Of each task the newest annotation that was not cancelled; predictions are no labels."""
        data = load_json(file)
        if not isinstance(data, list):
            raise DatasetError(f"{file}: is no Label Studio export: expected a list of tasks")
        document = Document()
        newest = {str(part(task, "id") or number): task for number, task in enumerate(data)}
        for number, task in newest.items():
            place = f"task {number}"
            if part(task, "data") is None:
                task = _from_minimal(task)
            done = [a for a in entries(part(task, "annotations")) if not part(a, "was_cancelled")]
            if not done:
                message = "no annotation: left out, not a background; predictions are no labels"
                document.note("image-unannotated", "warning", f"{place}: {message}")
                continue
            results = [r for r in entries(part(done[-1], "result")) if _is_shape(r)]
            sizes = [(part(r, "original_width"), part(r, "original_height")) for r in results]
            address = next((v for v in entries(part(task, "data")) if isinstance(v, str)), "")
            image = document.image(_file_of(address), sizes[0] if sizes else (None, None))
            for count, result in enumerate(results):
                notes: list[Note] = []
                box = _box(result, notes)
                label = part(result, "value", str(part(result, "type")), 0)
                document.box(image, label, box, f"{place} result[{count}]", notes=notes)
        return {**document.to_coco(), "by_end": True}


def _from_minimal(task: Any) -> dict[str, Any]:
    """A task of JSON-MIN, which has its shapes beside the address of the image, as one of JSON."""
    values = task if isinstance(task, dict) else {}
    results = [
        {**shape, "type": kind, "value": shape}
        for value in values.values()
        for shape in entries(value if isinstance(value, list) else None)
        for kind in (*_KEYS, *_WITHOUT_BOX)
        if isinstance(shape, dict) and kind in shape
    ]
    return {"data": values, "annotations": [{"result": results}]}


def _is_shape(result: Any) -> bool:
    kind = part(result, "type")
    return kind in _KEYS or kind in _WITHOUT_BOX


def _file_of(address: str) -> str:
    """The path in an address: of an upload, a local file, a bucket."""
    parts = urllib.parse.urlsplit(address)
    inner = urllib.parse.parse_qs(parts.query).get("d", [""])[0]
    if inner:
        return inner
    return urllib.parse.unquote(parts.path) or address


def _box(result: Any, notes: list[Note]) -> Any:
    """xyxy pixels.  A rotation turns clockwise about the top left corner."""
    kind = _KEYS.get(str(part(result, "type")))
    if kind is None:
        notes.append(no_box(str(part(result, "type")).removesuffix("labels")))
        return None
    width, height = part(result, "original_width"), part(result, "original_height")
    try:
        if kind == "polygon":
            pairs = entries(part(result, "value", "points"))
            return hull((x * width / 100, y * height / 100) for x, y in pairs)
        sides = ("radiusX", "radiusY") if kind == "ellipse" else ("width", "height")
        x, y, w, h = (part(result, "value", key) for key in ("x", "y", *sides))
        x, w, y, h = x * width / 100, w * width / 100, y * height / 100, h * height / 100
        turn = math.radians(part(result, "value", "rotation") or 0)
    except (TypeError, OverflowError):  # a number of 400 digits
        notes.append(("label-number", "error", "expected numbers for shape and image size"))
        return None
    if kind == "ellipse":
        return x - w, y - h, x + w, y + h
    if not turn:
        return x, y, x + w, y + h
    notes.append(("box-rotated", "warning", "turned; the upright box around it is used"))
    cos, sin = math.cos(turn), math.sin(turn)
    corners = [(0, 0), (w, 0), (w, h), (0, h)]
    return hull((x + a * cos - b * sin, y + a * sin + b * cos) for a, b in corners)
