"""labelme and Supervisely: a JSON per image."""

from __future__ import annotations

import math
import os
from pathlib import Path, PureWindowsPath
from typing import Any

from ...sets.dataset import DatasetError
from ...sets.listing import IMAGE_SUFFIXES
from ..pixel_rows import Note
from ..reader import register
from ..texts import load_json
from .document import Document, FolderReader, entries, hull, no_box, part


@register("labelme")
class LabelmeReader(FolderReader):
    """Files of labelme and X-AnyLabeling, each beside its image."""

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """Every JSON below a folder that has ``shapes``."""
        document = Document()
        for path in sorted(file.rglob("*.json")):
            try:
                data = load_json(path)
            except DatasetError as error:
                document.broken(error)
                continue
            if not isinstance(part(data, "shapes"), list):
                continue
            name = _image_of(path, str(part(data, "imagePath") or ""))
            size = (part(data, "imageWidth"), part(data, "imageHeight"))
            image = document.image(name, size, labels=path)
            for number, shape in enumerate(data["shapes"]):
                notes: list[Note] = []
                box = _box(shape, notes)
                place = f"{path.relative_to(file).as_posix()} shapes[{number}]"
                document.box(image, part(shape, "label"), box, place, notes=notes)
        return document.to_coco()


def _image_of(path: Path, name: str) -> str:
    """The image of a JSON: as its ``imagePath`` says, or beside it; else its name."""
    plain = PureWindowsPath(name).as_posix() if "\\" in name else name
    beside = (path.parent / f"{path.stem}{suffix}" for suffix in IMAGE_SUFFIXES)
    named = (path.parent / plain, path.parent / Path(plain).name) if name else ()
    for candidate in (*named, *beside):
        if candidate.is_file():
            return os.path.normpath(candidate)
    return Path(plain).name or path.with_suffix(".jpg").name


def _box(shape: Any, notes: list[Note]) -> Any:
    """The box around a shape.  A circle is its center and a point on it."""
    kind, points = str(part(shape, "shape_type") or "polygon"), entries(part(shape, "points"))
    if kind in ("point", "points", "line", "linestrip") or len(points) < 2:
        notes.append(no_box(kind))
        return None
    if kind == "circle":
        try:
            (x, y), (other_x, other_y) = points[:2]
            radius = math.hypot(other_x - x, other_y - y)
            return x - radius, y - radius, x + radius, y + radius
        except (TypeError, ValueError):
            return points[0]
    box = hull(points)
    if box is None:
        notes.append(("label-number", "error", f"points are {str(points)[:60]}, expected pairs"))
    return box


@register("supervisely")
class SuperviselyReader(FolderReader):
    """Supervisely: ``img/a.jpg`` and ``ann/a.jpg.json`` in every data set of a project."""

    in_order = True

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """All data sets below a folder; ``meta.json`` says the order of the classes."""
        document = Document(_titles(file))
        for path in sorted(file.rglob("ann/*.json")):
            try:
                data = load_json(path)
            except DatasetError as error:
                document.broken(error)
                continue
            size = (part(data, "size", "width"), part(data, "size", "height"))
            image_path = path.parent.parent / "img" / path.name.removesuffix(".json")
            image = document.image(str(image_path), size, labels=path)
            for number, shape in enumerate(entries(part(data, "objects"))):
                notes: list[Note] = []
                kind, points = part(shape, "geometryType"), part(shape, "points", "exterior")
                box = hull(entries(points)) if kind in ("rectangle", "polygon") else None
                if box is None:
                    notes.append(no_box(str(kind)))
                elif kind == "rectangle":  # its corners are pixels that belong to it
                    box = (box[0], box[1], box[2] + 1, box[3] + 1)
                place = f"{path.relative_to(file).as_posix()} objects[{number}]"
                document.box(image, part(shape, "classTitle"), box, place, notes=notes)
        return {**document.to_coco(), "bare_names": True}  # older projects: img/a.png, ann/a.json


def _titles(folder: Path) -> list[str]:
    """The classes of the project that a folder is, or is part of."""
    for place in (folder, *folder.parents[:2]):
        if (place / "meta.json").is_file():
            classes = entries(part(load_json(place / "meta.json"), "classes"))
            return [title for c in classes if isinstance(title := part(c, "title"), str)]
    return []
