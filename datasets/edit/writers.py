"""Writers of label formats: YOLO text files, COCO JSON, Pascal VOC XML.

Each writes the labels of images that lie in a new folder as

    images/SPLIT/NAME

and returns the lines of the YAML that describes them.  Numbers are written so exactly that a box of
float32 is read back to the bit, and a training on the new data set is the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ...files.version import __version__
from ..boxes import xyxy_to_xywhn
from ..formats.record import Record
from .layout import Placed

Splits = dict[str, list[Placed]]
Writer = Callable[[Path, Splits, Sequence[str]], dict[str, Any]]


def write_yolo(root: Path, splits: Splits, names: Sequence[str]) -> dict[str, Any]:
    """``labels/SPLIT/NAME.txt``: a row per box.  Boxes around a crowd are left out: as a row, each
    would be one object."""
    for split, placed in splits.items():
        for one in placed:
            record = one.record.without_crowd()
            boxes = xyxy_to_xywhn(record.boxes, record.size).tolist()
            rows = [
                f"{label} " + " ".join(map(repr, box)) + "\n"
                for label, box in zip(record.labels, boxes, strict=True)
            ]
            file = root / "labels" / split / one.name.with_suffix(".txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(rows), encoding="utf-8")
    return {split: f"images/{split}" for split in splits}


def write_coco(root: Path, splits: Splits, names: Sequence[str]) -> dict[str, Any]:
    """``annotations/instances_SPLIT.json`` with crowds and areas; ids count from 1."""
    lines: dict[str, Any] = {"format": "coco"}
    for split, placed in splits.items():
        document = coco_document([(f"{split}/{one.name}", one.record) for one in placed], names)
        file = root / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(document), encoding="utf-8")
        lines[split] = f"annotations/instances_{split}.json"
    return {**lines, "images": "images"}


def coco_document(
    named: Sequence[tuple[str, Record]], names: Sequence[str]
) -> dict[str, list[Any] | dict[str, Any]]:
    """A COCO document of images under the names that it gives them.  names: of the classes."""
    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for id, (name, record) in enumerate(named, 1):
        height, width = record.size
        images.append({"id": id, "file_name": name, "width": width, "height": height})
        rows += [{"id": len(rows) + n, "image_id": id, **row} for n, row in _coco_rows(record)]
    return {
        "info": {"description": f"written by det {__version__}"},
        "images": images,
        "annotations": rows,
        "categories": [{"id": id, "name": name} for id, name in enumerate(names, 1)],
    }


def _coco_rows(record: Record) -> list[tuple[int, dict[str, Any]]]:
    """The rows of an image, numbered from 1."""
    boxes = record.boxes.astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides.prod(axis=1) if record.area is None else record.area
    crowd = np.zeros(len(boxes), bool) if record.crowd is None else record.crowd
    return [
        (
            number + 1,
            {
                "category_id": int(label) + 1,
                "bbox": [*boxes[number, :2].tolist(), *sides[number].tolist()],
                "area": float(areas[number]),
                "iscrowd": int(crowd[number]),
            },
        )
        for number, label in enumerate(record.labels)
    ]


def write_voc(root: Path, splits: Splits, names: Sequence[str]) -> dict[str, Any]:
    """``annotations/SPLIT/NAME.xml``: corners are not rounded, and count from 0.  Boxes around a
    crowd are left out."""
    for split, placed in splits.items():
        for one in placed:
            file = root / "annotations" / split / one.name.with_suffix(".xml")
            file.parent.mkdir(parents=True, exist_ok=True)
            tree = ElementTree.ElementTree(_voc_tree(one, names))
            ElementTree.indent(tree)
            tree.write(file, encoding="utf-8")
    return {"format": "voc", **{split: f"images/{split}" for split in splits}}


def _voc_tree(one: Placed, names: Sequence[str]) -> ElementTree.Element:
    record = one.record.without_crowd()
    tree = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, tag: str, text: object = None) -> ElementTree.Element:
        element = ElementTree.SubElement(parent, tag)
        element.text = None if text is None else str(text)
        return element

    add(tree, "folder", one.split)
    add(tree, "filename", one.name.name)
    size = add(tree, "size")
    for tag, value in zip(("height", "width", "depth"), (*record.size, 3), strict=True):
        add(size, tag, value)
    for label, box in zip(record.labels, record.boxes.astype(np.float64), strict=True):
        entry = add(tree, "object")
        add(entry, "name", names[label])
        add(entry, "difficult", 0)
        corners = add(entry, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box.tolist(), strict=True):
            add(corners, tag, value)
    return tree


WRITERS: dict[str, Writer] = {"yolo": write_yolo, "coco": write_coco, "voc": write_voc}
"""Name of a label format -> its writer."""


def _mask_areas(record: Record) -> int:
    """How many objects have another area than their box."""
    if record.area is None:
        return 0
    boxes = (record.boxes[:, 2:] - record.boxes[:, :2]).prod(axis=1)
    return int((np.abs(record.area - boxes) > 0.01 * boxes + 1).sum())


def not_held(format: str, records: Sequence[Record]) -> dict[str, int]:
    """What a format cannot hold of these records, counted: boxes around crowds, areas of masks."""
    lost: Counter[str] = Counter()
    if format != "coco":
        for record in records:
            lost["boxes around a crowd"] += 0 if record.crowd is None else int(record.crowd.sum())
            lost["areas of masks"] += _mask_areas(record)
    return {name: count for name, count in lost.items() if count}
