"""Label Studio's JSON: tasks with annotations, in percent of the image."""

from __future__ import annotations

import math
import urllib.parse
from pathlib import Path, PurePosixPath
from typing import Any

from ...sets.dataset import DatasetError
from ...sets.finding import Finding
from ..pixel_rows import Note, Row
from ..reader import register
from ..texts import load_json
from .document import Document, ForeignReader, entries, hull, no_box, part

_KEYS = {"rectanglelabels": "rectangle", "polygonlabels": "polygon", "ellipselabels": "ellipse"}
"""Type of a result -> its shape; the labels stand under the same key."""
_WITHOUT_BOX = ("keypointlabels", "brushlabels", "vectorlabels")


@register("labelstudio")
class LabelStudioReader(ForeignReader):
    """The export "JSON".  A task that nobody annotated is left out: it is no background."""

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """Of each task the newest annotation that was not cancelled; predictions are no labels."""
        data = load_json(file)
        if not isinstance(data, list):
            raise DatasetError(f"{file}: is no Label Studio export: expected a list of tasks")
        document = Document()
        unannotated = []
        for number, task in enumerate(data):
            place = f"task {part(task, 'id') or number}"
            done = [a for a in entries(part(task, "annotations")) if not part(a, "was_cancelled")]
            if not done:
                unannotated.append(place)
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
        return {**document.to_coco(), "unannotated": unannotated}

    def _parse(self, data: dict[str, Any]) -> dict[str, list[Row]]:
        rows = super()._parse(data)
        message = "no annotation: left out, not a background; predictions are no labels"
        self._listing.findings += [
            Finding("image-unannotated", "warning", self.file, 0, f"{place}: {message}")
            for place in data["unannotated"]
        ]
        return rows

    @property
    def records_sizes(self) -> bool:  # type: ignore[override]
        """Only images with a shape have their size recorded."""
        return False


def _is_shape(result: Any) -> bool:
    kind = part(result, "type")
    return kind in _KEYS or kind in _WITHOUT_BOX


def _file_of(address: str) -> str:
    """The file's name in an address: an upload, a local file, a bucket."""
    parts = urllib.parse.urlsplit(address)
    inner = urllib.parse.parse_qs(parts.query).get("d", [""])[0]
    if inner:
        return inner
    name = PurePosixPath(urllib.parse.unquote(parts.path)).name
    return name or address


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
    except TypeError:
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
