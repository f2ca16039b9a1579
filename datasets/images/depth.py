"""Images of more than 8 bits (microscopes, x-rays, heat) as the 8 bits that det works with.

A camera of 12 bits that writes files of 16 bits uses a sixteenth of their range, and a window of
interest is smaller still: divided by 256 such an image is black.  So the range that an image uses
is stretched over 0..255, by one of these rules:

- ``auto``: images of 8 bits stay as they are, all others as by ``percentile``.
- ``minmax``: the smallest value of the image becomes 0, the largest 255.
- ``percentile``: the same from the 0.1th to the 99.9th percentile, so that a few hot or dead pixels
  decide nothing.
- ``raw``: the high 8 bits of 16 (0..65535 becomes 0..255).

All channels of an image share one range, so that its colors stay.  An image of one value is black.
"""

from __future__ import annotations

import numpy as np

AUTO, MINMAX, PERCENTILE, RAW = "auto", "minmax", "percentile", "raw"
RULES = (AUTO, MINMAX, PERCENTILE, RAW)
CUT = 0.001
"""Share of the values that ``percentile`` leaves out at each end."""
AT_ONCE = 1 << 20
"""Values that are counted at once: NumPy takes 8 bytes for each meanwhile."""


def to_8_bits(image: np.ndarray, rule: str, *, reuse: bool = False) -> np.ndarray:
    """An image of uint8, uint16 or float values [H,W] or [H,W,C] as uint8, by a rule other than
    raw.  Values that are not finite are black.  reuse: uint16 values make room for the result, so
    that a large image is never held twice."""
    if image.dtype == np.uint8 and rule == AUTO:
        return image
    if image.dtype not in (np.uint8, np.uint16):
        image = _to_16_bits(image)
    levels = np.iinfo(image.dtype).max + 1
    values = image.reshape(-1)
    parts = (values[i : i + AT_ONCE] for i in range(0, len(values), AT_ONCE))
    ends = np.cumsum(sum(np.bincount(part, minlength=levels) for part in parts))
    cut = 0.0 if rule == MINMAX else CUT * image.size
    low = int(np.searchsorted(ends, cut, side="right"))
    high = int(np.searchsorted(ends, image.size - cut, side="left"))
    scaled = (np.arange(levels) - low) * (255.0 / max(high - low, 1))
    table: np.ndarray = scaled.round().clip(0, 255).astype(np.uint8)
    return _looked_up(table, image) if reuse and image.dtype == np.uint16 else table[image]


def _looked_up(table: np.ndarray, image: np.ndarray) -> np.ndarray:
    """``table[image]`` in the memory of ``image`` [...] uint16: each part is read before the bytes
    that it lay in are written."""
    values, result = image.reshape(-1), image.reshape(-1).view(np.uint8)
    for start in range(0, len(values), AT_ONCE):
        part = values[start : start + AT_ONCE]
        result[start : start + len(part)] = table[part]
    return result[: len(values)].reshape(image.shape)


def _to_16_bits(image: np.ndarray) -> np.ndarray:
    """Other numbers, with their whole range in 65,536 levels."""
    values = image.astype(np.float64)
    finite = np.isfinite(values)
    low = float(values.min(initial=np.inf, where=finite))
    high = float(values.max(initial=-np.inf, where=finite))
    if not low < high:
        return np.zeros(image.shape, np.uint16)
    scaled = (np.where(finite, values, low) - low) * (65535.0 / (high - low))
    return scaled.round().astype(np.uint16)
