"""The pixels of images in memory, as RGB."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ...datasets.images.depth import AUTO, MINMAX, PERCENTILE, RAW, to_8_bits
from .arrays import EXPECTED, SourceError, is_a


def to_rgb(image: Any, rgb: bool = False, pixels: str = RAW) -> np.ndarray:
    """One image of ``arrays.images_in`` as [H,W,3] uint8 RGB.

    rgb: whether a NumPy array is RGB or RGBA, not BGR or BGRA.  The alpha channel is dropped.
    Floats up to 1 are in 0..1, floats above 1 in 0..255, unless ``pixels`` stretches all images
    (minmax, percentile); 16-bit values become 8 bits by the rule ``pixels``, as in files (raw:
    0..65535 are 0..255).  A PIL image is turned as its EXIF says.
    Raises SourceError for values outside their range.
    """
    if is_a(image, "PIL.Image", "Image"):
        from PIL import ImageOps

        turned, rgb = ImageOps.exif_transpose(image), True
        image = np.asarray(turned if turned.mode.startswith("I;16") else turned.convert("RGB"))
    elif not isinstance(image, np.ndarray):
        values, rgb = image.detach().cpu(), True
        values = values.float() if values.is_floating_point() else values
        image = values.numpy().transpose(1, 2, 0)
    colors = image if image.ndim == 2 else image[:, :, :3]
    return _colors(_bytes(colors, pixels), rgb)


def stretched(image: np.ndarray, pixels: str) -> np.ndarray:
    """A decoded frame [H,W,3] uint8 by the rule ``pixels``, as images in files."""
    return to_8_bits(image, pixels) if pixels in (MINMAX, PERCENTILE) else image


def _bytes(image: np.ndarray, pixels: str) -> np.ndarray:
    """The values as uint8."""
    if pixels in (MINMAX, PERCENTILE) or (pixels == AUTO and image.dtype == np.uint16):
        return to_8_bits(image, pixels)
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 255):  # also true for nan
        raise SourceError(f"array source has values from {low:g} to {high:g}: {EXPECTED}")
    return (image.astype(np.float32) * (255 if high <= 1 else 1)).round().astype(np.uint8)


def _colors(image: np.ndarray, rgb: bool) -> np.ndarray:
    """[H,W], [H,W,1], [H,W,3] or [H,W,4] as [H,W,3] RGB; an RGB image is not copied."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if rgb:
        return np.ascontiguousarray(image[:, :, :3])
    return cv2.cvtColor(np.ascontiguousarray(image[:, :, :3]), cv2.COLOR_BGR2RGB)
