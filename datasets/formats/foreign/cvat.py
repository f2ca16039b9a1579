"""CVAT for images 1.1: one XML for all images, with the subset of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from ...sets.dataset import DatasetError
from ..pixel_rows import Note
from ..reader import register
from ..xml import UnusableXml, parse_xml
from .document import Document, ForeignReader, hull, no_box

_SUBSETS = {"train": ("train", "training"), "val": ("val", "valid", "validation")}


@register("cvat")
class CvatReader(ForeignReader):
    """``annotations.xml``; a split takes the images of its subset where the file names subsets."""

    suffixes = (".xml",)
    in_order = True

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """Boxes, and the boxes around polygons, ellipses and masks."""
        try:
            root = parse_xml(file, "annotations")
        except (OSError, UnusableXml) as error:
            raise DatasetError(f"{file}: {error.args[-1]}") from error
        if root.find("track") is not None:
            raise DatasetError(f"{file}: is 'CVAT for video'; export it as 'CVAT for images'")
        names = [label.findtext("name") or "" for label in root.iter("label")]
        document = Document(name.strip() for name in names if name.strip())
        images = root.findall("image")
        subsets = {(image.get("subset") or "").lower() for image in images}
        wanted = _SUBSETS.get(split, (split,))
        for element in images:
            subset = (element.get("subset") or "").lower()
            if subsets & set(wanted) and subset not in wanted:
                continue
            name, place = element.get("name") or "", f"image {element.get('id')}"
            path = f"{element.get('subset')}/{name}" if element.get("subset") else name
            image = document.image(path, (element.get("width"), element.get("height")))
            for label, box, where, notes in _shapes(element):
                document.box(image, label, box, f"{place} {where}", notes=notes)
        return document.to_coco()


def _shapes(image: Element) -> Iterator[tuple[str | None, Any, str, list[Note]]]:
    for number, shape in enumerate(image):
        if shape.tag == "tag":
            continue
        notes: list[Note] = []
        box = _box(shape, notes)
        if box is None and not notes:
            notes.append(no_box(shape.tag))
        yield shape.get("label"), box, f"{shape.tag}[{number}]", notes


def _box(shape: Element, notes: list[Note]) -> Any:
    keys = {
        "box": ("xtl", "ytl", "xbr", "ybr"), "ellipse": ("cx", "cy", "rx", "ry"),
        "mask": ("left", "top", "width", "height"),
    }.get(shape.tag)  # fmt: skip
    if shape.tag == "polygon":
        return hull(pair.split(",") for pair in (shape.get("points") or "").split(";"))
    if keys is None:
        return None
    values = [shape.get(key) for key in keys]
    try:
        a, b, c, d = (float(value or "") for value in values)
        turn = math.radians(float(shape.get("rotation") or 0))
    except ValueError:
        return values  # the finding says that they are no numbers
    if shape.tag == "ellipse":
        return a - c, b - d, a + c, b + d
    if shape.tag == "mask":
        return a, b, a + c, b + d
    if not turn:
        return a, b, c, d
    notes.append(("box-rotated", "warning", "turned; the upright box around it is used"))
    cos, sin = abs(math.cos(turn)), abs(math.sin(turn))
    width, height = (c - a) * cos + (d - b) * sin, (c - a) * sin + (d - b) * cos
    x, y = (a + c) / 2, (b + d) / 2
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2
