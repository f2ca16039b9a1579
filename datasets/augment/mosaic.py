"""Where images are drawn in an output image: the mosaic of four images, and the single image.

The classic mosaic (arXiv:2004.10934) pastes four images around a random point of a canvas of
twice the output's side and then warps that canvas into the output.  Here the canvas is not drawn:
the place of a tile on it and the warp are one affine matrix, and each tile is drawn once, directly
into its part of the output.  Everything is computed here from image sizes: a ``Placement`` in exact
coordinates, a ``Tile`` in whole pixels, and the boxes.  So the boxes are the same whether the tiles
are drawn by draw_cpu.py (OpenCV) or device_draw.py (torch).

Without rotation and shear a tile lands on an axis-aligned rectangle.  It is then resized between
whole source and output pixels, which OpenCV does three times faster than a warp; the matrix is
adjusted to what is drawn (by at most half a source pixel) and the boxes follow the adjusted one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .transforms import clip_boxes, translated, warp_boxes, worth_keeping

Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1 in whole pixels."""

_ALIASED = 0.5  # below this zoom bilinear sampling skips source pixels
_NOTHING = (0, 0, 0, 0)


@dataclass(frozen=True)
class Placement:
    """The part of a source image that is used, and its place in an output image.

    index: place of the image in the data set.  crop: x0, y0, x1, y1, the part of the source that is
    used, in whole pixels.  matrix: [2,3], source pixels to output pixels.
    """

    index: int
    crop: Rectangle
    matrix: np.ndarray


@dataclass(frozen=True)
class Tile:
    """A placement rounded to whole pixels.

    index: place of the image in the data set.  crop: the part of it that is used.  halvings: how
    often the crop is halved by area first, each side rounded up.  source: the part of the halved
    crop that is sampled; beyond it its outermost pixels are repeated, by half a pixel.  target:
    the part of the output that may be drawn on, empty if the tile is not visible.  straight:
    source is resized to target, and mirrored where a zoom is negative.  local: [2,3], pixels of the
    halved crop to output pixels.  matrix: the same for pixels of the image, for its boxes.
    """

    index: int
    crop: Rectangle
    halvings: int
    source: Rectangle
    target: Rectangle
    straight: bool
    local: np.ndarray
    matrix: np.ndarray

    @property
    def is_seen(self) -> bool:
        """Whether anything is drawn."""
        x0, y0, x1, y1 = self.target
        return x0 < x1 and y0 < y1


def place_single(
    index: int, size: tuple[int, int], canvas: tuple[int, int], matrix: np.ndarray
) -> Placement:
    """One image centered on a canvas that ``matrix`` maps to the output; both sizes (h, w)."""
    height, width = size
    centered = translated(matrix, (canvas[1] - width) / 2.0, (canvas[0] - height) / 2.0)
    return Placement(index, (0, 0, width, height), centered)


def place_mosaic(
    indices: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    center: tuple[int, int],
    canvas: tuple[int, int],
    matrix: np.ndarray,
) -> list[Placement]:
    """Four images touching ``center`` (x, y) with a corner, cut at the edges of the canvas.

    Order: top left, top right, bottom left, bottom right.  sizes, canvas: (h, w) each.
    """
    placements = []
    for corner, (index, (height, width)) in enumerate(zip(indices, sizes, strict=True)):
        x = center[0] - (width if corner in (0, 2) else 0)
        y = center[1] - (height if corner in (0, 1) else 0)
        crop = (max(-x, 0), max(-y, 0), min(canvas[1] - x, width), min(canvas[0] - y, height))
        placements.append(Placement(index, crop, translated(matrix, x, y)))
    return placements


def to_pixels(placement: Placement, size: tuple[int, int]) -> Tile:
    """The tile that is drawn for a placement into an output of ``size`` (h, w)."""
    x0, y0, x1, y1 = placement.crop
    width, height = x1 - x0, y1 - y0
    local = translated(placement.matrix, x0, y0)
    if width <= 0 or height <= 0:
        whole = translated(local, -x0, -y0)
        return Tile(placement.index, placement.crop, 0, _NOTHING, _NOTHING, True, local, whole)
    (a, b, _), (c, d, _) = local.tolist()
    halvings, shrink = 0, None
    if abs(a * d - b * c) < _ALIASED**2:
        halvings, small = _halvings(width, height, local)
        shrink = np.array((width / small[0], height / small[1], 1.0))
        local = local * shrink
        width, height = small
    straight = b == 0.0 and c == 0.0
    find = _straight if straight else _warped
    source, target, local = find(width, height, local, size)
    whole = translated(local if shrink is None else local / shrink, -x0, -y0)
    return Tile(
        placement.index, placement.crop, halvings, source, target, straight, local, whole
    )


def move_boxes(
    tiles: Sequence[Tile],
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [N,4] float32 and labels [N] int64 that are visible enough in an output of
    ``size`` (h, w).  boxes, labels: those of each tile's image."""
    counts = [len(part) for part in boxes]
    if not any(counts):
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    source = np.concatenate(boxes).astype(np.float64)  # [N,4]
    source = clip_boxes(source, np.repeat([tile.crop for tile in tiles], counts, 0))
    matrices = np.repeat([tile.matrix for tile in tiles], counts, 0)  # [N,2,3]
    warped = clip_boxes(warp_boxes(source, matrices), (0, 0, size[1], size[0]))
    zoom = np.abs(matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] * matrices[:, 1, 0])
    areas = (source[:, 2] - source[:, 0]) * (source[:, 3] - source[:, 1]) * zoom
    keep = worth_keeping(warped, areas)
    return warped[keep].astype(np.float32), np.concatenate(labels)[keep]


def half(width: int, height: int) -> tuple[int, int]:
    """Width and height after one halving."""
    return (width + 1) // 2, (height + 1) // 2


def _halvings(width: int, height: int, matrix: np.ndarray) -> tuple[int, tuple[int, int]]:
    """How many halvings leave a zoom that does not alias, and width and height after them."""
    zoom = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
    count = 0
    while zoom < _ALIASED and min(width, height) > 1:
        width, height = half(width, height)
        zoom *= 2.0
        count += 1
    return count, (width, height)


_Found = tuple[Rectangle, Rectangle, np.ndarray]


def _straight(width: int, height: int, matrix: np.ndarray, size: tuple[int, int]) -> _Found:
    """Source, target and the matrix that equals a resize between whole pixels."""
    (zoom_x, _, x), (_, zoom_y, y) = matrix.tolist()
    across = _span(width, zoom_x, x, size[1])
    down = _span(height, zoom_y, y, size[0])
    if across is None or down is None:
        return _NOTHING, _NOTHING, matrix
    drawn = np.array(((across.zoom, 0.0, across.offset), (0.0, down.zoom, down.offset)))
    source = (across.source_start, down.source_start, across.source_stop, down.source_stop)
    return source, (across.start, down.start, across.stop, down.stop), drawn


class _Span(NamedTuple):
    """Whole source pixels drawn onto whole output pixels along one axis, and the resulting map.

    Source pixel i goes to ``zoom * i + offset``; a negative zoom is mirrored.
    """

    source_start: int
    source_stop: int
    start: int
    stop: int
    zoom: float
    offset: float


def _span(length: int, zoom: float, offset: float, limit: int) -> _Span | None:
    """The part of [0, length] that ``zoom * i + offset`` takes into [0, limit]; None if empty."""
    mirrored = zoom < 0.0
    low, high = offset, offset + zoom * length
    if mirrored:
        low, high = high, low
    start, stop = round(max(low, 0.0)), round(min(high, limit))
    if start >= stop:
        return None
    from_start, from_stop = (start - offset) / zoom, (stop - offset) / zoom
    if mirrored:
        from_start, from_stop = from_stop, from_start
    source_start = min(max(round(from_start), 0), length - 1)
    source_stop = max(min(round(from_stop), length), source_start + 1)
    drawn = (stop - start) / (source_stop - source_start)
    if mirrored:
        return _Span(source_start, source_stop, start, stop, -drawn, stop + drawn * source_start)
    return _Span(source_start, source_stop, start, stop, drawn, start - drawn * source_start)


def _warped(width: int, height: int, matrix: np.ndarray, size: tuple[int, int]) -> _Found:
    """Source, the bounds of the moved part, and ``matrix``: a warp needs no adjustment."""
    bounds = warp_boxes(np.array(((0.0, 0.0, width, height),)), matrix[None])[0]
    limit = (size[1], size[0]) * 2
    bounds = np.clip((*np.floor(bounds[:2]), *np.ceil(bounds[2:])), 0, limit).astype(int)
    x0, y0, x1, y1 = bounds.tolist()
    return (0, 0, width, height), (x0, y0, x1, y1), matrix
