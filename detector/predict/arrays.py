"""Images that are in memory already: NumPy arrays, PIL images and torch tensors.

Types are recognized without importing PIL or torch: an object of theirs exists only if they are
loaded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...files.errors import InputError

EXPECTED = (
    "expected NumPy [H,W,3] uint8 BGR (rgb=True: RGB), gray [H,W], BGRA [H,W,4], floats in 0..1 or "
    "0..255, or a torch tensor [B,3,H,W] RGB in 0..1"
)


class SourceError(InputError):
    """A source that does not exist, is no image or cannot be read; the message says why."""


def images_in(source: Any) -> list[Any] | None:
    """The single images of an array, tensor or PIL image; None if ``source`` is none of these.

    A tensor [B,3,H,W] holds B images, the others one.  Pixels are not looked at.  Raises
    SourceError for a shape or type that is no image.
    """
    if isinstance(source, np.ndarray):
        _check(source.dtype, source.shape, color_axis=2)
        return [source]
    if _is(source, "torch", "Tensor"):
        images = source[None] if source.ndim == 3 else source
        _check(np.dtype(str(source.dtype).rpartition(".")[2].replace("bfloat16", "float16")),
               images.shape[1:], color_axis=0)  # fmt: skip
        return list(images)
    return [source] if _is(source, "PIL.Image", "Image") else None


def name_of(image: Any, default: str) -> Path:
    """The file of a PIL image that was read from one; ``default`` for all others."""
    return Path(getattr(image, "filename", "") or default)


def to_rgb(image: Any, rgb: bool = False) -> np.ndarray:
    """One image of ``images_in`` as [H,W,3] uint8 RGB.

    rgb: whether a NumPy array is RGB or RGBA, not BGR or BGRA.  The alpha channel is dropped.
    Floats up to 1 are in 0..1, floats above 1 in 0..255; 16-bit values are in 0..65535.  A PIL
    image is turned as its EXIF says.  Raises SourceError for values outside their range.
    """
    if isinstance(image, np.ndarray):
        return _colors(_bytes(image), rgb)
    if _is(image, "PIL.Image", "Image"):
        from PIL import ImageOps

        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    pixels = image.detach().cpu()
    pixels = pixels.float() if pixels.is_floating_point() else pixels
    return _colors(_bytes(pixels.numpy().transpose(1, 2, 0)), rgb=True)


def _is(source: Any, module: str, name: str) -> bool:
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(source, getattr(loaded, name))


def _check(dtype: np.dtype, shape: tuple[int, ...], color_axis: int) -> None:
    """Raise SourceError for a type or shape that is no image."""
    colors = (1, 3, 4) if color_axis == 2 else (1, 3)
    gray = color_axis == 2 and len(shape) == 2
    known = np.issubdtype(dtype, np.floating) or dtype in (np.uint8, np.uint16)
    if not known or not (gray or (len(shape) == 3 and shape[color_axis] in colors)) or 0 in shape:
        raise SourceError(
            f"array source is {dtype} of shape {list(shape)}: {EXPECTED} (several images: a list)"
        )


def _bytes(image: np.ndarray) -> np.ndarray:
    """The values as uint8."""
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
