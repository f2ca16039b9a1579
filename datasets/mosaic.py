"""Composing an output image from parts of source images: the mosaic of four, and the single image.

The classic mosaic (arXiv:2004.10934) pastes four images around a random point of a canvas of
twice the output's side and then warps that canvas into the output.  Here the canvas never exists:
the place of a tile on it and the warp are one affine matrix, and each tile is drawn once,
straight into its part of the output.  What is drawn is decided first, from image sizes alone
(``Placement``); drawing and boxes follow from it, so that a device other than the CPU can draw
the same sample.

Without rotation and shear a tile lands on an axis-aligned rectangle.  It is then drawn by
``cv2.resize`` between whole source and output pixels, three times faster than a warp; the matrix
is adjusted to what was drawn (by at most half a source pixel) and the boxes follow the adjusted
one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from .image import FILL
from .transforms import clip_boxes, translated, warp_boxes, worth_keeping

_ALIASED = 0.5  # below this zoom bilinear sampling skips source pixels
_Draw = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Placement:
    """One source image's part in an output image.

    index: place of the image in the data set.  crop: x0, y0, x1, y1, the part of the source that is
    used, in whole pixels.  matrix: [2,3], source pixels to output pixels.
    """

    index: int
    crop: tuple[int, int, int, int]
    matrix: np.ndarray


def place_single(index: int, size: tuple[int, int], canvas: int, matrix: np.ndarray) -> Placement:
    """One image of ``size`` (h, w) centred on a canvas that ``matrix`` maps to the output."""
    height, width = size
    centred = translated(matrix, (canvas - width) / 2.0, (canvas - height) / 2.0)
    return Placement(index, (0, 0, width, height), centred)


def place_mosaic(
    indices: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    centre: tuple[int, int],
    canvas: int,
    matrix: np.ndarray,
) -> list[Placement]:
    """Four images touching ``centre`` (x, y) with a corner, cut at the edges of the canvas.

    Order: top left, top right, bottom left, bottom right.  sizes: (h, w) each.
    """
    placements = []
    for corner, (index, (height, width)) in enumerate(zip(indices, sizes, strict=True)):
        x = centre[0] - (width if corner in (0, 2) else 0)
        y = centre[1] - (height if corner in (0, 1) else 0)
        crop = (max(-x, 0), max(-y, 0), min(canvas - x, width), min(canvas - y, height))
        placements.append(Placement(index, crop, translated(matrix, x, y)))
    return placements


def compose(
    placements: Sequence[Placement],
    images: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    output: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw placements into ``output`` [H,W,3] uint8, all of which is overwritten.

    images, boxes and labels are those of each placement's source image. Returns the boxes [N,4]
    float32 and labels [N] int64 that are seen well enough in the output.
    """
    output.fill(FILL)
    drawn = [
        _draw(output, image, placement)
        for image, placement in zip(images, placements, strict=True)
    ]
    counts = [len(part) for part in boxes]
    if not any(counts):
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    source = np.concatenate(boxes).astype(np.float64)  # [N,4]
    source = clip_boxes(source, np.repeat([part.crop for part in placements], counts, 0))
    matrices = np.repeat(drawn, counts, 0)  # [N,2,3]
    warped = clip_boxes(warp_boxes(source, matrices), (0, 0, output.shape[1], output.shape[0]))
    zoom = np.abs(matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] * matrices[:, 1, 0])
    areas = (source[:, 2] - source[:, 0]) * (source[:, 3] - source[:, 1]) * zoom
    keep = worth_keeping(warped, areas)
    return warped[keep].astype(np.float32), np.concatenate(labels)[keep]


def _draw(output: np.ndarray, image: np.ndarray, placement: Placement) -> np.ndarray:
    """Draw a placement; returns the matrix that describes exactly what was drawn."""
    x0, y0, x1, y1 = placement.crop
    matrix = translated(placement.matrix, x0, y0)
    part = image[y0:y1, x0:x1]
    if part.size:
        (a, b, _), (c, d, _) = matrix.tolist()
        draw = _draw_straight if b == 0.0 and c == 0.0 else _draw_warped
        if abs(a * d - b * c) < _ALIASED**2:
            matrix = _draw_softened(output, part, matrix, draw)
        else:
            matrix = draw(output, part, matrix)
    return translated(matrix, -x0, -y0)


def _draw_softened(
    output: np.ndarray, part: np.ndarray, matrix: np.ndarray, draw: _Draw
) -> np.ndarray:
    """Draw after halving by area until the zoom that is left does not alias."""
    height, width = part.shape[:2]
    zoom = math.sqrt(abs(float(np.linalg.det(matrix[:, :2]))))
    while zoom < _ALIASED and min(part.shape[:2]) > 1:
        half = ((part.shape[1] + 1) // 2, (part.shape[0] + 1) // 2)
        part = cv2.resize(part, half, interpolation=cv2.INTER_AREA)
        zoom *= 2.0
    shrink = np.array((width / part.shape[1], height / part.shape[0], 1.0))
    drawn: np.ndarray = draw(output, part, matrix * shrink) / shrink
    return drawn


def _draw_straight(output: np.ndarray, part: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Draw by resizing between whole pixels; returns the matrix this amounts to."""
    (zoom_x, _, x), (_, zoom_y, y) = matrix.tolist()
    height, width = part.shape[:2]
    across = _span(width, zoom_x, x, output.shape[1])
    down = _span(height, zoom_y, y, output.shape[0])
    if across is None or down is None:
        return matrix
    target = output[down.start : down.stop, across.start : across.stop]
    part = part[down.source_start : down.source_stop, across.source_start : across.source_stop]
    cv2.resize(part, target.shape[1::-1], dst=target, interpolation=cv2.INTER_LINEAR)
    if across.zoom < 0.0 or down.zoom < 0.0:
        mirror = 1 if down.zoom > 0.0 else 0 if across.zoom > 0.0 else -1
        cv2.flip(target, mirror, dst=target)
    return np.array(((across.zoom, 0.0, across.offset), (0.0, down.zoom, down.offset)))


class _Span(NamedTuple):
    """Whole source pixels drawn onto whole output pixels along one axis, and the map that this is.

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


def _draw_warped(output: np.ndarray, part: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Draw by one warp into the bounds of the moved part; returns ``matrix``."""
    height, width = part.shape[:2]
    bounds = warp_boxes(np.array(((0.0, 0.0, width, height),)), matrix[None])[0]
    limit = (output.shape[1], output.shape[0]) * 2
    x0, y0, x1, y1 = np.clip((*np.floor(bounds[:2]), *np.ceil(bounds[2:])), 0, limit).astype(int)
    if x0 >= x1 or y0 >= y1:
        return matrix
    # A transparent warp draws only where all four neighbours exist, which would leave a dark seam
    # half a pixel wide between tiles: one more, repeated pixel around the part closes it.
    framed = cv2.copyMakeBorder(part, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    # OpenCV counts from pixel centres: shift by half a pixel on both sides.
    centred = translated(matrix, -0.5, -0.5)
    centred[:, 2] -= (x0 + 0.5, y0 + 0.5)
    target = output[y0:y1, x0:x1]
    cv2.warpAffine(
        framed,
        centred,
        target.shape[1::-1],
        dst=target,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_TRANSPARENT,
    )
    return matrix
