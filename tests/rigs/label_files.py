"""Boxes as the label files of several tools write them."""

from __future__ import annotations

import json
from pathlib import Path

NAMES = ("Platelets", "RBC", "WBC")
SIZE = (60, 80)

Box = tuple[int, float, float, float, float]
"""Class id, left, top, right and bottom in pixels."""


def swap(path: Path, old: str, new: str, end: str) -> Path:
    return Path(*[new if part == old else part for part in path.with_suffix(end).parts])


def shares(box: Box) -> tuple[float, ...]:
    _, x0, y0, x1, y1 = box
    w, h = SIZE[1], SIZE[0]
    return (x0 + x1) / 2 / w, (y0 + y1) / 2 / h, (x1 - x0) / w, (y1 - y0) / h


def joined(label: object, values: tuple[float, ...], by: str = " ") -> str:
    return by.join([str(label), *(f"{value:.6g}" for value in values)])


def yolo(box: Box) -> str:
    return joined(box[0], shares(box))


def corners(box: Box) -> tuple[float, ...]:
    return box[1] / SIZE[1], box[2] / SIZE[0], box[3] / SIZE[1], box[4] / SIZE[0]


def voc(image: Path, boxes: list[Box]) -> str:
    objects = "".join(
        f"<object><name>{NAMES[label]}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for label, x0, y0, x1, y1 in boxes
    )
    size = f"<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{image.name}</filename>{size}{objects}</annotation>"


def coco(boxes: dict[Path, list[Box]], prefix: str = "") -> str:
    images, rows = [], []
    for number, (path, some) in enumerate(boxes.items()):
        name = prefix + path.name
        images.append({"id": number, "file_name": name, "width": SIZE[1], "height": SIZE[0]})
        for label, x0, y0, x1, y1 in some:
            box = [x0, y0, x1 - x0, y1 - y0]
            rows.append({"id": len(rows), "image_id": number, "category_id": label + 1, "bbox": box,
                         "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
    kinds = [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
    return json.dumps({"images": images, "annotations": rows, "categories": kinds})


def labelme(image: Path, boxes: list[Box]) -> str:
    shapes = [
        {"label": NAMES[label], "points": [[x0, y0], [x1, y1]], "shape_type": "rectangle"}
        for label, x0, y0, x1, y1 in boxes
    ]
    return json.dumps({"version": "5", "shapes": shapes, "imagePath": image.name})


def createml(boxes: dict[Path, list[Box]]) -> str:
    return json.dumps(
        [
            {"image": path.name, "annotations": [
                {"label": NAMES[b[0]], "coordinates": {"x": 1, "y": 1, "width": 2, "height": 2}}
                for b in some]}
            for path, some in boxes.items()
        ]
    )  # fmt: skip


def csv(boxes: dict[Path, list[Box]]) -> str:
    lines = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for path, some in boxes.items():
        for label, *box in some:
            lines.append(f"{path.name},80,60,{NAMES[label]},{','.join(map(str, box))}")
    return "\n".join(lines)
