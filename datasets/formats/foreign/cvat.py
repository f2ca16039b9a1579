"""CVAT for images 1.1 and CVAT for video 1.1: one XML for all images.

For images it says the subset of each.  For video it says the boxes of every frame of a track; the
frames lie as ``frame_000000.png``, as CVAT exports them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from ...sets.dataset import DatasetError
from ..pixel_rows import Note
from ..reader import register
from ..xml import UnusableXml, parse_xml
from .document import Document, ForeignReader, hull, no_box

_SUBSETS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@register("cvat")
class CvatReader(ForeignReader):
    """``annotations.xml``; a split takes the images of its subset where the file names subsets."""

    suffixes = (".xml",)
    in_order = True
    splits_inside = True

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """Boxes, and the boxes around polygons, ellipses and masks."""
        root = _root(file)
        names = [label.findtext("name") or "" for label in root.iter("label")]
        document = Document(name.strip() for name in names if name.strip())
        images = root.findall("image")
        subsets = {(image.get("subset") or "").lower() for image in images}
        wanted = _words(split)
        for element in images:
            subset = (element.get("subset") or "").lower()
            if subsets & wanted and subset not in wanted:
                continue
            name, place = element.get("name") or "", f"image {element.get('id')}"
            path = f"{element.get('subset')}/{name}" if element.get("subset") else name
            image = document.image(path, (element.get("width"), element.get("height")))
            for number, shape in enumerate(element):
                if shape.tag != "tag":
                    where = f"{place} {shape.tag}[{number}]"
                    _add_shape(document, image, shape.get("label"), shape, where)
        _add_tracks(document, root)
        return {**document.to_coco(), "bare_names": root.find("track") is not None}


def splits_in(file: Path) -> list[str]:
    """The splits whose subsets the XML names; empty where it names none.  Raises DatasetError."""
    subsets = {(image.get("subset") or "").lower() for image in _root(file).findall("image")}
    found = [split for split in ("train", "val", "test") if subsets & _words(split)]
    return found if subsets <= {word for split in found for word in _words(split)} else []


def _words(split: str) -> set[str]:
    """How subsets of a split are called."""
    return set(_SUBSETS.get(split, (split,)))


def _root(file: Path) -> Element:
    try:
        return parse_xml(file, "annotations")
    except (OSError, UnusableXml) as error:
        raise DatasetError(f"{file}: {error.args[-1]}") from error


def _add_tracks(document: Document, root: Element) -> None:
    """The boxes of every frame in which a track is not outside."""
    size = (root.findtext(".//original_size/width"), root.findtext(".//original_size/height"))
    for track in root.findall("track"):
        for number, shape in enumerate(track):
            frame = shape.get("frame") or ""
            if shape.get("outside") == "1" or not frame.isdecimal():
                continue
            place = f"track {track.get('id')} {shape.tag}[{number}]"
            image = document.image(f"frame_{int(frame):06d}", size)
            _add_shape(document, image, track.get("label"), shape, place)


def _add_shape(
    document: Document, image: int, label: str | None, shape: Element, place: str
) -> None:
    notes: list[Note] = []
    box = _box(shape, notes)
    if box is None and not notes:
        notes.append(no_box(shape.tag))
    document.box(image, label, box, place, notes=notes)


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
