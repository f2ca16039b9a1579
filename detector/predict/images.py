"""Small steps between an image and a file: crops, encoding, safe and free names."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np

from ...files.text import fitting_name

JPEG_QUALITY = 95


def crop_box(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The pixels of ``image`` [H,W,3] that the xyxy box touches: a view, within the borders."""
    x1, y1 = (max(0, int(np.floor(side))) for side in box[:2])
    x2, y2 = (max(0, int(np.ceil(side))) for side in box[2:])
    return image[y1:y2, x1:x2]


def encode(image: np.ndarray, suffix: str) -> bytes:
    """A BGR image as the bytes of a file.  Raises OSError for a suffix that OpenCV cannot write."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix in (".jpg", ".jpeg") else []
    try:
        done, data = cv2.imencode(suffix, image, options)
    except cv2.error:
        done = False
    if not done:
        raise OSError(f"an image of {image.shape[:2]} cannot be written as {suffix}: use .jpg")
    return data.tobytes()


def folder_name(class_name: str) -> str:
    """A class name as the name of one folder: no separators, no leading or trailing dots."""
    return fitting_name(re.sub(r"[^\w\- .]", "_", class_name)).strip(". ") or "_"


def free_path(path: Path) -> Path:
    """``path``, or with -2, -3, ... if it exists; its folder is made."""
    free, number = path, 1
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    free.parent.mkdir(parents=True, exist_ok=True)
    return free
