"""A result as a task of Label Studio with a prediction, which people there correct."""

from __future__ import annotations

import os
import urllib.parse
from typing import Any

from .results import Results

LOCAL = "/data/local-files/?d="
"""Label Studio's address of a file below its LOCAL_FILES_DOCUMENT_ROOT."""


def task(result: Results) -> dict[str, Any]:
    """The task of an image: its address, and the boxes in percent of the image, clipped to it.

    The names ``image`` and ``label`` are those of Label Studio's template for object detection.
    An absolute path is given relative to ``/``.
    """
    height, width = result.orig_shape
    shared = {
        "type": "rectanglelabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
    }
    boxes = [
        {**shared, "id": str(number), "score": found["confidence"], "value": _value(found)}
        for number, found in enumerate(result.summary(normalize=True, decimals=None), 1)
    ]
    prediction = {"model_version": "det", "result": boxes}
    return {"data": {"image": _address(result)}, "predictions": [prediction]}


def _value(found: dict[str, Any]) -> dict[str, Any]:
    x1, y1, x2, y2 = (100 * min(max(side, 0.0), 1.0) for side in found["box"].values())
    sides = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
    return {**sides, "rotation": 0, "rectanglelabels": [found["name"]]}


def _address(result: Results) -> str:
    path = result.source.path
    parts = path.parts[1:] if path.is_absolute() else path.parts
    return LOCAL + urllib.parse.quote(os.fsencode("/".join(parts)))
