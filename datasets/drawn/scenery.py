"""Backgrounds of the drawn data set, and the effects of a camera.

A background has layers: a wash of a few colors, a structure (horizon, bricks, planks, roofs,
cloth), clutter, and grain in several octaves.  Most colors are near those of sky, earth, leaves and
stone.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from .canvas import SHIFT, UNIT, Color, circle, dim, hsv
from .decoys import muted

_NATURAL = ((0.58, 0.4, 0.8), (0.55, 0.15, 0.85), (0.3, 0.4, 0.5), (0.09, 0.35, 0.6),
            (0.1, 0.1, 0.75), (0.6, 0.1, 0.4), (0.06, 0.4, 0.85))  # hue, saturation, value


def paint_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A picture [H,W,3] uint8 RGB with no object in it."""
    image = _wash(rng, height, width)
    structure = _STRUCTURES[int(rng.integers(len(_STRUCTURES)))]
    if structure is not None:
        structure(rng, image)
    for _ in range(int(rng.integers(0, 9))):
        _clutter(rng, image)
    factor = _grain(rng, height, width, rng.uniform(0.02, 0.13))
    cv2.multiply(image, factor, image, scale=1 / 128)
    if rng.random() < 0.4:  # out of focus behind the objects
        radius = 2 * int(rng.integers(1, 5)) + 1
        cv2.blur(image, (radius, radius), image)
    return image


def develop(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The picture with the effects of a camera: slight blur, exposure, white balance and noise."""
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.6))
    levels = np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.7, 1.25) * rng.uniform(0.8, 1.12)
    levels = (levels + rng.uniform(-0.02, 0.06)) * rng.uniform(0.93, 1.07, 3)
    image = cv2.LUT(image, np.clip(levels * 255, 0, 255).astype(np.uint8)[None])
    height, width = image.shape[:2]
    strength = rng.choice([1.0, 2.5, 6.0, 10.0], p=[0.4, 0.3, 0.2, 0.1])
    tile = np.round(rng.normal(0, strength, (160, 160, 3))).astype(np.int16)  # repeated: unseen
    noise = np.tile(tile, (height // 160 + 1, width // 160 + 1, 1))[:height, :width]
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def _tone(rng: np.random.Generator, spread: float = 0.1) -> Color:
    """A color found outdoors (two times in three), else any muted one."""
    if rng.random() < 0.33:
        return muted(rng)
    return hsv(rng, *_NATURAL[int(rng.integers(len(_NATURAL)))], spread)


def _wash(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth field [H,W,3] between a handful of related colors."""
    rows, columns = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    base, spread = np.array(_tone(rng)), rng.uniform(8, 60)
    grid = base + rng.normal(0, spread / 3, 3) + rng.normal(0, spread, (rows, columns, 1))
    grid = grid + rng.normal(0, spread / 3, (rows, columns, 3))
    small = np.clip(grid, 0, 255).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _grain(rng: np.random.Generator, height: int, width: int, strength: float) -> np.ndarray:
    """Noise of four octaves as a factor picture [H,W,3] uint8 in which 128 means 1."""
    total = np.full((height, width), 128, np.float32)
    for octave in range(4):
        cell = max(2, max(height, width) // (3 * 3**octave))
        shape = (height // cell + 2, width // cell + 2)
        noise = rng.normal(0, 128 * strength * 0.75**octave, shape)
        total += cv2.resize(noise.astype(np.float32), (width, height))
    plane = np.clip(total, 0, 255).astype(np.uint8)
    return cv2.merge([plane, plane, plane])


def _fill(image: np.ndarray, points: np.ndarray, color: Color) -> None:
    """Fill a polygon [N,2] given in pixels."""
    cv2.fillPoly(image, [np.round(points * UNIT).astype(np.int32)], color, cv2.LINE_AA, SHIFT)


def _horizon(rng: np.random.Generator, image: np.ndarray) -> None:
    """Ground below a wavy line; the wash above is the sky."""
    height, width = image.shape[:2]
    x = np.linspace(0, width, 24)
    for level in np.sort(rng.uniform(0.35, 0.9, int(rng.integers(1, 4)))):
        bumps = np.sin(x / width * rng.uniform(2, 9) + rng.uniform(0, 6)) * rng.uniform(0, 0.06)
        line = np.stack([x, (level + bumps) * height], 1)
        ground = hsv(rng, rng.uniform(0.06, 0.4), 0.4, rng.uniform(0.25, 0.75), 0.12)
        _fill(image, np.concatenate([line, [(width, height), (0, height)]]), ground)


def _bricks(rng: np.random.Generator, image: np.ndarray) -> None:
    """Courses of bricks or tiles with joints."""
    height, width = image.shape[:2]
    tall = max(6, round(rng.uniform(0.04, 0.13) * height))
    long = round(tall * rng.choice([1.0, 2.0, 2.6]))
    offset = long // 2 if rng.random() < 0.7 else 0
    base, joint, thick = _tone(rng), _tone(rng), max(1, tall // 10)
    for row, y in enumerate(range(0, height, tall)):
        for x in range(-offset if row % 2 else 0, width, long):
            corner = (x + long - thick, y + tall - thick)
            cv2.rectangle(image, (x, y), corner, dim(base, rng.uniform(0.85, 1.15)), -1)
        cv2.line(image, (0, y + tall), (width, y + tall), joint, thick)


def _planks(rng: np.random.Generator, image: np.ndarray) -> None:
    """Boards with a grain, horizontal or vertical."""
    view = image if rng.random() < 0.5 else image.swapaxes(0, 1)
    step = max(8, round(rng.uniform(0.07, 0.25) * len(view)))
    wood = hsv(rng, 0.08, rng.uniform(0.2, 0.6), rng.uniform(0.35, 0.85))
    for start in range(0, len(view), step):
        color, board = dim(wood, rng.uniform(0.82, 1.18)), view[start:start + step]
        board[:] = color
        for vein in rng.integers(0, step, 5):
            board[vein:vein + 1] = dim(color, rng.uniform(0.85, 1.1))
        board[:2] = dim(color, 0.55)


def _roofs(rng: np.random.Generator, image: np.ndarray) -> None:
    """A street of houses with windows under the sky."""
    height, width = image.shape[:2]
    x = 0
    while x < width:
        wide = max(12, round(rng.uniform(0.1, 0.3) * width))
        top = round(rng.uniform(0.2, 0.7) * height)
        wall, glass = _tone(rng, 0.2), muted(rng)
        cv2.rectangle(image, (x, top), (x + wide, height), wall, -1)
        step = max(10, round(wide / rng.integers(3, 7)))
        for row in range(top + step // 2, height, step + step // 3):
            for column in range(x + step // 3, x + wide - step // 2, step):
                corner = (column + step // 2, row + step // 2)
                cv2.rectangle(image, (column, row), corner, dim(glass, rng.uniform(0.7, 1.2)), -1)
        x += wide
    cv2.rectangle(image, (0, round(0.88 * height)), (width, height), _tone(rng), -1)


def _cloth(rng: np.random.Generator, image: np.ndarray) -> None:
    """Stripes over the wash, in one or two directions."""
    step = max(6, round(rng.uniform(0.03, 0.12) * max(image.shape)))
    for view in (image, image.swapaxes(0, 1))[: int(rng.integers(1, 3))]:
        color = np.array(_tone(rng), np.float32)
        for start in range(0, len(view), 2 * step):
            band = view[start:start + step]
            band[:] = (0.65 * band + 0.35 * color).astype(np.uint8)


_STRUCTURES = (None, _horizon, _horizon, _bricks, _planks, _roofs, _cloth)


def _clutter(rng: np.random.Generator, image: np.ndarray) -> None:
    """One thing: a line, a polygon, an ellipse or a few rows of writing."""
    height, width = image.shape[:2]
    scale = max(height, width)
    center, reach = rng.uniform(0, 1, 2) * (width, height), scale * rng.uniform(0.02, 0.2)
    color, kind = muted(rng), rng.integers(4)
    if kind == 0:
        ends = np.round(rng.uniform(-0.1, 1.1, (2, 2)) * (width, height) * UNIT).astype(np.int32)
        thick = max(1, round(scale * rng.uniform(0.002, 0.02)))
        cv2.polylines(image, [ends], False, color, thick, cv2.LINE_AA, SHIFT)
    elif kind == 1:
        turn = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 7))))
        _fill(image, center + reach * np.stack([np.cos(turn), np.sin(turn)], 1), color)
    elif kind == 2:
        _fill(image, circle(center, reach * rng.uniform(0.3, 1.0, 2)), color)
    else:
        _writing(rng, image, center, 0.25 * reach, color)


def _writing(rng: np.random.Generator, image: np.ndarray, corner: np.ndarray, letter: float,
             color: Color) -> None:
    """Rows of short strokes, ``letter`` pixels wide, that look like letters."""
    rows, columns = int(rng.integers(1, 4)), int(rng.integers(3, 10))
    cells = np.stack(np.meshgrid(np.arange(columns) * 1.3, np.arange(rows) * 2.2), -1)
    strokes = cells.reshape(-1, 1, 2) + rng.uniform(0, 1, (rows * columns, 4, 2)) * (1, 1.6)
    fixed = np.round((corner + letter * strokes) * UNIT).astype(np.int32)
    thick = max(1, round(letter * 0.2))
    cv2.polylines(image, list(fixed), False, color, thick, cv2.LINE_AA, SHIFT)
