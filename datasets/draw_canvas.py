"""The paper on which the embedded data set is drawn: a square RGBA picture addressed in fractions.

Pictures hold premultiplied colour, because that is what OpenCV's anti-aliased drawing leaves on an
empty four-channel picture, and because premultiplied pictures may be warped and blended without dark
fringes.  Left out: anything that needs a font or a file.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

Colour = tuple[int, int, int]
Painter = Callable[[np.random.Generator, int], np.ndarray]

SHIFT = 4  # OpenCV draws with coordinates of 1/16 pixel
UNIT = 1 << SHIFT


def hsv(rng: np.random.Generator, hue: float, saturation: float, value: float,
        spread: float = 0.05) -> Colour:
    """An RGB colour near (hue in turns, saturation, value in 0..1), each jittered by ``spread`` (hue by a third)."""
    jitter = rng.uniform(-spread, spread, 3)
    s, v = (min(max(x, 0.0), 1.0) for x in (saturation + jitter[1], value + jitter[2]))
    red, green, blue = colorsys.hsv_to_rgb((hue + jitter[0] / 3) % 1.0, s, v)
    return round(red * 255), round(green * 255), round(blue * 255)


def dim(colour: Colour, factor: float) -> Colour:
    """The colour with its brightness multiplied, clipped at white."""
    red, green, blue = (min(255, round(x * factor)) for x in colour)
    return red, green, blue


def circle(centre: Sequence[float], radius: Sequence[float] | float, start: float = 0.0,
           end: float = 2 * math.pi, steps: int = 48) -> np.ndarray:
    """Points [steps,2] of an ellipse's arc; angles in radians, 0 to the right, growing clockwise on the screen."""
    angle = np.linspace(start, end, steps)
    return np.stack([np.cos(angle), np.sin(angle)], 1) * radius + np.asarray(centre)


class Canvas:
    """A square RGBA picture with premultiplied colour; all coordinates and widths are fractions of its side."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.pixels = np.zeros((side, side, 4), np.uint8)

    def _fixed(self, points: np.ndarray | Sequence[Sequence[float]]) -> np.ndarray:
        return np.round(np.asarray(points) * (self.side * UNIT)).astype(np.int32)

    def polygon(self, points: np.ndarray | Sequence[Sequence[float]], colour: Colour) -> None:
        cv2.fillPoly(self.pixels, [self._fixed(points)], (*colour, 255), cv2.LINE_AA, SHIFT)

    def disc(self, centre: Sequence[float], radius: Sequence[float] | float, colour: Colour) -> None:
        self.polygon(circle(centre, radius), colour)

    def stroke(self, points: np.ndarray | Sequence[Sequence[float]], width: float, colour: Colour,
               closed: bool = False) -> None:
        thick = max(1, round(width * self.side))
        cv2.polylines(self.pixels, [self._fixed(points)], closed, (*colour, 255), thick,
                      cv2.LINE_AA, SHIFT)

    def trim(self, alpha: np.ndarray) -> None:
        """Cut away what was drawn outside ``alpha`` [side,side] uint8, an earlier state of the fourth channel."""
        cv2.min(self.pixels, cv2.merge([alpha] * 4), self.pixels)

    def light(self, factor: np.ndarray) -> None:
        """Multiply the colour by ``factor`` [h,w] float (any small size, stretched to the canvas); 1 changes nothing."""
        small = np.clip(factor * 128, 0, 255).astype(np.uint8)
        full = cv2.resize(small, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        alpha = self.pixels[:, :, 3]
        lit = cv2.multiply(self.pixels, cv2.merge([full, full, full, full]), scale=1 / 128)
        self.pixels = cv2.min(lit, cv2.merge([alpha] * 4))
        self.pixels[:, :, 3] = alpha
