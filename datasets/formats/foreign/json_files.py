"""CreateML, VoTT, Datumaro and Hugging Face ImageFolder: one JSON per split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...sets.dataset import Dataset, DatasetError
from ..reader import UnnamedClasses, register
from ..texts import load_json, read_text
from .document import Document, ForeignReader, entries, from_sides, part


@register("createml")
class CreateMlReader(ForeignReader):
    """Apple's CreateML: x and y are the center of a box."""

    records_sizes = False

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """A list of ``{image, annotations: [{label, coordinates: {x, y, width, height}}]}``."""
        data = load_json(file)
        if not isinstance(data, list):
            raise DatasetError(f"{file}: is no CreateML file: expected a list of images")
        document = Document()
        for number, item in enumerate(data):
            name = part(item, "image") or part(item, "imagefilename")
            image = document.image(str(name or f"[{number}]"))
            for count, row in enumerate(entries(part(item, "annotations"))):
                where = f"[{number}].annotations[{count}]"
                x, y, width, height = (
                    part(row, "coordinates", key) for key in ("x", "y", "width", "height")
                )
                try:
                    box = from_sides(x - width / 2, y - height / 2, width, height)
                except (TypeError, OverflowError):
                    box = (x, y, width, height)  # the finding says which is no number
                document.box(image, part(row, "label"), box, where)
        return document.to_coco()


@register("vott")
class VottReader(ForeignReader):
    """Microsoft's VoTT: assets with regions; a region may have several tags."""

    in_order = True

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """``assets: {id: {asset: {name, size}, regions: [{tags, boundingBox}]}}``."""
        data = load_json(file)
        if not isinstance(part(data, "assets"), dict):
            raise DatasetError(f"{file}: is no VoTT file: expected a mapping under 'assets'")
        tags = [part(tag, "name") for tag in entries(part(data, "tags"))]
        document = Document(name for name in tags if isinstance(name, str))
        for item in entries(data["assets"]):
            name = str(part(item, "asset", "name") or "")
            size = (part(item, "asset", "size", "width"), part(item, "asset", "size", "height"))
            image = document.image(name, size)
            for count, region in enumerate(entries(part(item, "regions"))):
                keys = ("left", "top", "width", "height")
                left, top, width, height = (part(region, "boundingBox", key) for key in keys)
                box = from_sides(left, top, width, height)
                for tag in entries(part(region, "tags")) or [None]:
                    document.box(image, tag, box, f"{name} regions[{count}]")
        return document.to_coco()


@register("datumaro")
class DatumaroReader(ForeignReader):
    """Datumaro's own JSON."""

    in_order = True

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """``categories.label.labels`` and ``items: [{image, annotations: [{type: bbox}]}]``."""
        data = load_json(file)
        labels = part(data, "categories", "label", "labels")
        if not isinstance(labels, list) or not isinstance(part(data, "items"), list):
            raise DatasetError(f"{file}: is no Datumaro file: expected categories and items")
        names = [str(part(label, "name")) for label in labels]
        document = Document(names)
        for number, item in enumerate(data["items"]):
            height, width = (part(item, "image", "size", place) for place in (0, 1))
            name = str(part(item, "image", "path") or part(item, "id") or f"items[{number}]")
            image = document.image(name, (width, height))
            for count, row in enumerate(entries(part(item, "annotations"))):
                if part(row, "type") != "bbox":
                    continue
                label = part(row, "label_id")
                known = isinstance(label, int) and 0 <= label < len(names)
                x, y, width, height = (part(row, "bbox", place) for place in range(4))
                box = from_sides(x, y, width, height)
                where = f"items[{number}].annotations[{count}]"
                document.box(image, names[label] if known else None, box, where)
        return document.to_coco()


@register("huggingface")
class HuggingFaceReader(ForeignReader):
    """ImageFolder with ``metadata.jsonl``: boxes are x, y, width, height; classes are numbers of
    ``names`` in the YAML, or names."""

    suffixes = (".jsonl",)
    records_sizes = False

    @classmethod
    def class_names(cls, dataset: Dataset) -> tuple[str, ...]:
        """The names in the files."""
        names = super().class_names(dataset)
        if all(name.isdecimal() for name in names):
            raise UnnamedClasses(
                f"{dataset.yaml}: names is missing: the file has numbers of classes only"
            )
        return names

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """A line per image: ``{file_name, objects: {bbox: [...], categories: [...]}}``."""
        document = Document()
        for number, line in enumerate(read_text(file).splitlines(), 1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DatasetError(f"{file}:{number}: is not valid JSON: {error}") from error
            image = document.image(str(part(item, "file_name") or f"line {number}"))
            for count, (row, label) in enumerate(_hugging_face_boxes(part(item, "objects"))):
                box = from_sides(*(part(row, place) for place in range(4)))
                document.box(image, label, box, f"line {number} bbox[{count}]")
        return document.to_coco()

    def _classes(self, data: dict[str, Any]) -> dict[Any, int]:
        """Numbers are places in ``names``."""
        names = self.dataset.class_names
        for category in data["categories"]:
            number = category["name"]
            if number.isdecimal() and int(number) < len(names) and number not in names:
                category["name"] = names[int(number)]
        return super()._classes(data)


def _hugging_face_boxes(objects: Any) -> list[tuple[Any, Any]]:
    """Box and class of each object: a mapping of lists, or a list of mappings."""
    if isinstance(objects, list):
        return [(part(row, "bbox"), _first(row)) for row in objects]
    labels = _first(objects)
    return [(row, part(labels, n)) for n, row in enumerate(entries(part(objects, "bbox")))]


def _first(row: Any) -> Any:
    """What stands under the first of the usual keys for classes."""
    found = (part(row, key) for key in ("categories", "category", "category_id", "label", "labels"))
    return next((value for value in found if value is not None), None)
