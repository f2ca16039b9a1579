"""Drawing tiles on the CPU with OpenCV: one resize or one warp each, straight into the output."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from ..images.image import FILL
from .mosaic import Tile, half
from .transforms import translated


def paint(tiles: Iterable[tuple[Tile, np.ndarray]], output: np.ndarray) -> None:
    """Draw tiles, each with its whole image [H,W,3] uint8, onto gray; later ones lie on top."""
    output.fill(FILL)
    for tile, image in tiles:
        if tile.is_seen:
            _draw(output, image, tile)


def _draw(output: np.ndarray, image: np.ndarray, tile: Tile) -> None:
    x0, y0, x1, y1 = tile.crop
    part = image[y0:y1, x0:x1]
    for _ in range(tile.halvings):
        smaller = half(part.shape[1], part.shape[0])
        part = cv2.resize(part, smaller, interpolation=cv2.INTER_AREA)
    x0, y0, x1, y1 = tile.target
    target = output[y0:y1, x0:x1]
    if tile.straight:
        _draw_straight(target, part, tile)
    else:
        _draw_warped(target, part, tile)


def _draw_straight(target: np.ndarray, part: np.ndarray, tile: Tile) -> None:
    x0, y0, x1, y1 = tile.source
    size = (target.shape[1], target.shape[0])
    cv2.resize(part[y0:y1, x0:x1], size, dst=target, interpolation=cv2.INTER_LINEAR)
    across, down = tile.local[0, 0], tile.local[1, 1]
    if across < 0.0 or down < 0.0:
        cv2.flip(target, 1 if down > 0.0 else 0 if across > 0.0 else -1, dst=target)


def _draw_warped(target: np.ndarray, part: np.ndarray, tile: Tile) -> None:
    # A transparent warp draws only where all four neighbors exist, which would leave a dark seam
    # half a pixel wide between tiles: one more, repeated pixel around the part closes it.
    framed = cv2.copyMakeBorder(part, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    # OpenCV counts from pixel centers: shift by half a pixel on both sides.
    centered = translated(tile.local, -0.5, -0.5)
    centered[:, 2] -= (tile.target[0] + 0.5, tile.target[1] + 0.5)
    cv2.warpAffine(
        framed,
        centered,
        (target.shape[1], target.shape[0]),
        dst=target,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_TRANSPARENT,
    )
