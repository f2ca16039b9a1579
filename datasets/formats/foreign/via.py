"""VGG Image Annotator (VIA) 1 and 2: a project, or its export of annotations as JSON or CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from ...sets.dataset import DatasetError
from ..pixel_rows import Note
from ..reader import register
from ..texts import load_json, read_text
from .document import Document, ForeignReader, entries, hull, no_box, part

_CLASS = ("class", "label", "name", "type", "category", "object")
"""Attributes that usually hold the class; VIA lets the user invent them."""

_ONLY_CLASS = "object"
_NO_NUMBERS = ("label-number", "error", "expected numbers for the shape")


@register("via")
class ViaReader(ForeignReader):
    """One JSON or CSV per split.  Where no region of a file has an attribute, all are one class."""

    suffixes = (".json", ".csv")
    records_sizes = False

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """``{key: {filename, regions: [{shape_attributes, region_attributes}]}}``."""
        data = _of_table(file) if file.suffix.lower() == ".csv" else load_json(file)
        images = part(data, "_via_img_metadata") or data
        if not isinstance(images, dict) or any(
            not isinstance(part(item, "filename"), str) for item in images.values()
        ):
            raise DatasetError(f"{file}: is no VIA file: expected a 'filename' for every image")
        document = Document()
        regions = [region for item in images.values() for region in entries(part(item, "regions"))]
        classless = bool(regions) and not any(part(r, "region_attributes") for r in regions)
        if classless:
            message = f"no region has an attribute: all are of the class {_ONLY_CLASS!r}"
            document.note("class-none", "warning", message)
        for key, item in images.items():
            image = document.image(item["filename"])
            for number, region in enumerate(entries(part(item, "regions"))):
                notes: list[Note] = []
                shape = part(region, "shape_attributes")
                box = _box(shape, notes)
                place = f"{key} regions[{number}]"
                label = _ONLY_CLASS if classless else _label(region)
                document.box(image, label, box, place, notes=notes)
        return document.to_coco()


def _of_table(file: Path) -> dict[str, Any]:
    """The CSV, which has a row per region and JSON in its cells, as VIA's JSON."""
    images: dict[str, Any] = {}
    try:
        for row in csv.DictReader(read_text(file).splitlines()):
            name = row.get("filename") or row.get("#filename") or ""
            item = images.setdefault(name, {"filename": name, "regions": []})
            shape = json.loads(row.get("region_shape_attributes") or "{}")
            if shape:  # an image without a region has a row too
                attributes = json.loads(row.get("region_attributes") or "{}")
                item["regions"].append({"shape_attributes": shape, "region_attributes": attributes})
    except (csv.Error, ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: is no CSV of VIA: {error}") from error
    return images


def _label(region: Any) -> Any:
    """The value of the attribute that holds the class: a usual name, else the only text."""
    attributes = part(region, "region_attributes")
    if not isinstance(attributes, dict):
        return None
    texts = {name: text for name, value in attributes.items() if (text := _text(value))}
    for name in _CLASS:
        if name in texts:
            return texts[name]
    return next(iter(texts.values())) if len(texts) == 1 else None


def _text(value: Any) -> str:
    """The value of an attribute: a text, or the only checkbox that is ticked."""
    ticked = [name for name, on in value.items() if on is True] if isinstance(value, dict) else []
    text = ticked[0] if len(ticked) == 1 else value
    return text.strip() if isinstance(text, str) else ""


def _box(shape: Any, notes: list[Note]) -> Any:
    kind = str(part(shape, "name"))
    if kind == "polygon":
        xs, ys = entries(part(shape, "all_points_x")), entries(part(shape, "all_points_y"))
        box = hull(zip(xs, ys, strict=False))
        if box is None:
            notes.append(_NO_NUMBERS)
        return box
    keys = {
        "rect": ("x", "y", "width", "height"), "circle": ("cx", "cy", "r", "r"),
        "ellipse": ("cx", "cy", "rx", "ry"),
    }.get(kind)  # fmt: skip
    if keys is None:
        notes.append(no_box(kind))
        return None
    a, b, c, d = (part(shape, key) for key in keys)
    try:
        return (a, b, a + c, b + d) if kind == "rect" else (a - c, b - d, a + c, b + d)
    except TypeError:
        notes.append(_NO_NUMBERS)
        return None
