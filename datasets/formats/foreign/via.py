"""VGG Image Annotator (VIA) 1 and 2: a project, or its export of annotations as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...sets.dataset import DatasetError
from ..pixel_rows import Note
from ..reader import register
from ..texts import load_json
from .document import Document, ForeignReader, entries, hull, no_box, part

_CLASS = ("class", "label", "name", "type", "category", "object")
"""Attributes that usually hold the class; VIA lets the user invent them."""

_NO_NUMBERS = ("label-number", "error", "expected numbers for the shape")


@register("via")
class ViaReader(ForeignReader):
    """One JSON per split."""

    records_sizes = False

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """``{key: {filename, regions: [{shape_attributes, region_attributes}]}}``."""
        data = load_json(file)
        images = part(data, "_via_img_metadata") or data
        if not isinstance(images, dict) or any(
            not isinstance(part(item, "filename"), str) for item in images.values()
        ):
            raise DatasetError(f"{file}: is no VIA file: expected a 'filename' for every image")
        document = Document()
        for key, item in images.items():
            image = document.image(item["filename"])
            for number, region in enumerate(entries(part(item, "regions"))):
                notes: list[Note] = []
                shape = part(region, "shape_attributes")
                box = _box(shape, notes)
                place = f"{key} regions[{number}]"
                document.box(image, _label(region), box, place, notes=notes)
        return document.to_coco()


def _label(region: Any) -> Any:
    """The value of the attribute that holds the class: a usual name, else the only text."""
    attributes = part(region, "region_attributes")
    if not isinstance(attributes, dict):
        return None
    for name in _CLASS:
        if isinstance(attributes.get(name), str) and attributes[name].strip():
            return attributes[name]
    texts = [value for value in attributes.values() if isinstance(value, str) and value.strip()]
    return texts[0] if len(texts) == 1 else None


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
