"""Images that are in memory already: NumPy arrays, PIL images and torch tensors.

Types are recognized without importing NumPy, PIL or torch: an object of theirs exists only if they
are loaded.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

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
    if is_a(source, "numpy", "ndarray"):
        _check(str(source.dtype), source.shape, color_axis=2)
        return [source]
    if is_a(source, "torch", "Tensor"):
        images = source[None] if source.ndim == 3 else source
        _check(str(source.dtype).rpartition(".")[2], images.shape[1:], color_axis=0)
        return list(images)
    return [source] if is_a(source, "PIL.Image", "Image") else None


def name_of(image: Any, default: str) -> Path:
    """The file of a PIL image that was read from one; ``default`` for all others."""
    return Path(getattr(image, "filename", "") or default)


def is_a(source: Any, module: str, name: str) -> bool:
    """Whether ``source`` is of a class that ``module``, if it is loaded, has under ``name``."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(source, getattr(loaded, name))


def _check(dtype: str, shape: tuple[int, ...], color_axis: int) -> None:
    """Raise SourceError for a type or shape that is no image."""
    colors = (1, 3, 4) if color_axis == 2 else (1, 3)
    gray = color_axis == 2 and len(shape) == 2
    known = "float" in dtype or dtype in ("uint8", "uint16")
    if not known or not (gray or (len(shape) == 3 and shape[color_axis] in colors)) or 0 in shape:
        raise SourceError(
            f"array source is {dtype} of shape {list(shape)}: {EXPECTED} (several images: a list)"
        )
