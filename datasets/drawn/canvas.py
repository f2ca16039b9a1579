"""The canvas of the drawn data set: a square RGBA picture with coordinates in fractions of its
side.

Color is premultiplied: OpenCV's anti-aliased drawing on an empty four-channel picture gives that,
and premultiplied pictures can be warped and blended without a dark fringe.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import ArrayLike

Color = tuple[int, int, int]
Painter = Callable[[np.random.Generator, int], np.ndarray]
"""Generator and side in pixels -> a patch [side,side,4] uint8, premultiplied RGBA."""

SHIFT = 4  # OpenCV draws with coordinates of 1/16 pixel
UNIT = 1 << SHIFT


def hsv(rng: np.random.Generator, hue: float, saturation: float, value: float,
        spread: float = 0.05) -> Color:
    """An RGB color near (hue in turns, saturation, value in 0..1).

    Saturation and value are jittered by ``spread`` either way, the hue by a third of it.
    """
    jitter = rng.uniform(-spread, spread, 3).tolist()
    s, v = (min(max(x, 0.0), 1.0) for x in (saturation + jitter[1], value + jitter[2]))
    red, green, blue = colorsys.hsv_to_rgb((hue + jitter[0] / 3) % 1.0, s, v)
    return round(red * 255), round(green * 255), round(blue * 255)


def dim(color: Color, factor: float) -> Color:
    """The color with its brightness multiplied, clipped at white."""
    red, green, blue = (min(255, round(x * factor)) for x in color)
    return red, green, blue


def circle(center: ArrayLike, radius: ArrayLike, start: float = 0.0, end: float = 2 * math.pi,
           steps: int = 48) -> np.ndarray:
    """Points [steps,2] of an ellipse's arc; radians from the right, clockwise on the screen."""
    angle = np.linspace(start, end, steps)
    ray = np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.asarray(ray * np.asarray(radius) + np.asarray(center))


def polygon(count: int, radius: float, turn: float) -> np.ndarray:
    """Corners [count,2] of a regular polygon around the middle of a canvas."""
    angle = np.arange(count) * 2 * math.pi / count + turn
    return 0.5 + radius * np.stack([np.cos(angle), np.sin(angle)], 1)


class Canvas:
    """A square RGBA picture; all coordinates and widths are fractions of its side."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.pixels: np.ndarray = np.zeros((side, side, 4), np.uint8)

    def _fixed(self, points: ArrayLike) -> np.ndarray:
        fixed: np.ndarray = np.round(np.asarray(points) * (self.side * UNIT))
        return fixed.astype(np.int32)

    def polygon(self, points: ArrayLike, color: Color) -> None:
        cv2.fillPoly(self.pixels, [self._fixed(points)], (*color, 255), cv2.LINE_AA, SHIFT)

    def box(self, x1: float, y1: float, x2: float, y2: float, color: Color) -> None:
        self.polygon([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], color)

    def disc(self, center: ArrayLike, radius: ArrayLike, color: Color) -> None:
        self.polygon(circle(center, radius), color)

    def stroke(self, points: ArrayLike, width: float, color: Color, closed: bool = False) -> None:
        thick = max(1, round(width * self.side))
        cv2.polylines(self.pixels, [self._fixed(points)], closed, (*color, 255), thick,
                      cv2.LINE_AA, SHIFT)

    def outline(self) -> np.ndarray:
        """A copy of the alpha channel [side,side] as it is now, for ``trim``."""
        return self.pixels[:, :, 3].copy()

    def trim(self, alpha: np.ndarray) -> None:
        """Cut away what lies outside ``alpha`` [side,side] uint8."""
        cv2.min(self.pixels, cv2.merge([alpha] * 4), self.pixels)

    def light(self, factor: np.ndarray) -> None:
        """Multiply the color by ``factor`` [h,w], stretched to the canvas; 1 changes nothing."""
        small = np.clip(factor * 128, 0, 255).astype(np.uint8)
        full = cv2.resize(small, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        alpha = self.outline()
        lit = cv2.multiply(self.pixels, cv2.merge([full] * 4), scale=1 / 128)
        cv2.min(lit, cv2.merge([alpha] * 4), self.pixels)  # premultiplied color ends at alpha
        self.pixels[:, :, 3] = alpha
