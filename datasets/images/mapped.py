"""Giant TIFFs that lie on disk as they are needed: only what is looked at is read.

An uncompressed TIFF of 8-bit RGB in one run of strips is mapped into memory instead of decoded.
Its tiles read their own region, and the system may drop what was read.  All other files are decoded
whole (OpenCV reads no regions).  Source: TIFF 6.0, sections 3 to 6.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from .header import tiff_numbers

WIDTH, HEIGHT, OFFSETS, LENGTHS = 256, 257, 273, 279
EXPECTED = {
    258: (8, 8, 8),  # bits of each sample
    259: (1,),  # no compression
    262: (2,),  # RGB
    274: (1,),  # not turned
    277: (3,),  # samples of a pixel
    284: (1,),  # which lie side by side
}
"""Tag -> what it must say."""
USUAL = {274: (1,), 284: (1,)}
"""What a tag means that is not there."""


def mapped_image(path: Path) -> np.ndarray | None:
    """[H,W,3] uint8 RGB, read-only, of a TIFF that can be mapped; None for any other file."""
    if path.suffix.lower() not in (".tif", ".tiff") or not path.is_file():
        return None
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError):  # ValueError: an empty file
        return None
    found = USUAL | tiff_numbers(data.data, (WIDTH, HEIGHT, OFFSETS, LENGTHS, *EXPECTED))
    if any(found.get(tag) != said for tag, said in EXPECTED.items()):
        return None
    if not found.keys() >= {WIDTH, HEIGHT, OFFSETS, LENGTHS}:
        return None
    shape = (found[HEIGHT][0], found[WIDTH][0], 3)
    strips = list(zip(found[OFFSETS], found[LENGTHS], strict=False))
    in_a_row = all(at + long == after for (at, long), (after, _) in itertools.pairwise(strips))
    start, size = strips[0][0], shape[0] * shape[1] * 3
    whole = sum(found[LENGTHS]) == size and start + size <= len(data)
    if not (in_a_row and whole and len(found[OFFSETS]) == len(found[LENGTHS])):
        return None
    return data[start : start + size].reshape(shape)
