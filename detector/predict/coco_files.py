"""Predictions in COCO's results format, and the images that they are about.

``coco_predictions.json`` is what ``COCO.loadRes`` of pycocotools takes.  ``coco_images.json`` is a
COCO document without annotations: images and categories.  An image is called as in ``det val``: by
the number in its file's name where every image has another number, else by its position.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from ...files.atomic import naming
from ..evaluate.coco import image_numbers
from .growing import GrowingFile
from .images import free_path
from .results import Results

PREDICTIONS, IMAGES = "coco_predictions.json", "coco_images.json"


class CocoFiles:
    """The two files in ``folder``, which exists.  They get their names in ``close``.

    The numbers of the images are known at the end, so detections wait in a file without a name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: list[tuple[str, int, int]] = []
        self._names: dict[int, str] = {}
        with naming(folder / PREDICTIONS):
            self._waiting = tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115

    def add(self, result: Results) -> None:
        """Add an image and its detections."""
        position = len(self._images)
        self._images.append((result.path, *result.orig_shape))
        self._names = result.names
        with naming(self._folder / PREDICTIONS):
            for found in result.summary(decimals=None):
                self._waiting.write(f"{json.dumps(_row(position, found))}\n")

    def close(self) -> list[Path]:
        """Write both files and return them, or write none."""
        numbers = image_numbers([Path(path) for path, _, _ in self._images])
        predictions = free_path(self._folder / PREDICTIONS)
        images = free_path(self._folder / IMAGES)
        lists = (
            GrowingFile(predictions, "[\n", ",\n", "\n]\n"),
            GrowingFile(images, '{"images": [\n', ",\n", f"\n]{self._end()}\n"),
        )
        try:
            self._waiting.seek(0)
            for line in self._waiting:
                row = json.loads(line)
                lists[0].append(json.dumps({**row, "image_id": numbers[row["image_id"]]}))
            for number, (path, height, width) in zip(numbers, self._images, strict=True):
                size = {"height": height, "width": width}
                lists[1].append(json.dumps({"id": number, "file_name": path, **size}))
            lists[1].close(images)
            lists[0].close(predictions)
        finally:
            for each in lists:
                each.discard()
            self.discard()
        return [predictions, images]

    def _end(self) -> str:
        categories = [{"id": number, "name": name} for number, name in self._names.items()]
        return f', "annotations": [], "categories": {json.dumps(categories)}}}'

    def discard(self) -> None:
        """Forget the detections; nothing is left on the disk."""
        self._waiting.close()


def _row(position: int, found: dict[str, Any]) -> dict[str, Any]:
    """A detection of ``Results.summary`` with COCO's names; the box as x, y, width, height."""
    x1, y1, x2, y2 = found["box"].values()
    box = [x1, y1, round(x2 - x1, 5), round(y2 - y1, 5)]
    score = found["confidence"]
    return {"image_id": position, "category_id": found["class"], "bbox": box, "score": score}
