"""What stands round the objects of the embedded data set: backgrounds, and things that are no object.

A background is built the way a photograph looks from afar: a wash of a few colours, a structure
(horizon, bricks, planks, roofs, tiles), grain in several octaves and loose clutter.  The decoys are
painters like those of draw_objects; each shares a colour or an outline with a class and lacks what
names it: a red disc without STOP, a hoop without icing, a crescent moon, a diamond without spars, a
box with one lamp.  Left out: anything that a person would call one of the classes.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from .draw_canvas import SHIFT, UNIT, Canvas, Colour, Painter, circle, dim, hsv


def paint_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A picture [H,W,3] uint8 RGB with no object in it."""
    image = _wash(rng, height, width)
    structure = _STRUCTURES[int(rng.integers(len(_STRUCTURES)))]
    if structure is not None:
        structure(rng, image)
    for _ in range(int(rng.integers(0, 9))):
        _clutter(rng, image)
    factor = _grain(rng, height, width, rng.uniform(0.03, 0.16))
    cv2.multiply(image, factor, image, scale=1 / 128)
    if rng.random() < 0.4:  # out of focus behind the objects
        radius = 2 * int(rng.integers(1, 5)) + 1
        cv2.blur(image, (radius, radius), image)
    return image


def _muted(rng: np.random.Generator) -> Colour:
    return hsv(rng, rng.random(), rng.beta(1.3, 2.5), rng.uniform(0.15, 0.95))


def _wash(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth field [H,W,3] between a handful of related colours."""
    rows, columns = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    hue, saturation, value = rng.random(), rng.beta(1.5, 3.0), rng.uniform(0.25, 0.9)
    spread = rng.uniform(0.05, 0.3)
    colours = [hsv(rng, hue, saturation, value, spread) for _ in range(rows * columns)]
    grid = np.array(colours, np.uint8).reshape(rows, columns, 3)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def _grain(rng: np.random.Generator, height: int, width: int, strength: float) -> np.ndarray:
    """Noise of four octaves as a factor picture [H,W,3] uint8 in which 128 means 1."""
    total = np.full((height, width), 128, np.float32)
    for octave in range(4):
        cell = max(2, max(height, width) // (3 * 3**octave))
        noise = rng.normal(0, 128 * strength * 0.75**octave, (height // cell + 2, width // cell + 2))
        total += cv2.resize(noise.astype(np.float32), (width, height))
    plane = np.clip(total, 0, 255).astype(np.uint8)
    return cv2.merge([plane, plane, plane])


def _fill(image: np.ndarray, points: np.ndarray, colour: Colour) -> None:
    cv2.fillPoly(image, [np.round(points * UNIT).astype(np.int32)], colour, cv2.LINE_AA, SHIFT)


# ---------------------------------------------------------------- structures

def _horizon(rng: np.random.Generator, image: np.ndarray) -> None:
    """Ground below a rolling line; the wash above is the sky."""
    height, width = image.shape[:2]
    for level in np.sort(rng.uniform(0.35, 0.9, int(rng.integers(1, 4)))):
        x = np.linspace(0, width, 24)
        bumps = np.sin(x / width * rng.uniform(2, 9) + rng.uniform(0, 6)) * rng.uniform(0, 0.06)
        line = np.stack([x, (level + bumps) * height], 1)
        ground = np.concatenate([line, [(width, height), (0, height)]])
        _fill(image, ground, hsv(rng, rng.uniform(0.06, 0.4), 0.4, rng.uniform(0.2, 0.7), 0.15))


def _bricks(rng: np.random.Generator, image: np.ndarray) -> None:
    """Courses of bricks or tiles with joints."""
    height, width = image.shape[:2]
    tall = max(6, round(rng.uniform(0.04, 0.13) * height))
    long = round(tall * rng.choice([1.0, 2.0, 2.6]))
    offset = long // 2 if rng.random() < 0.7 else 0
    base, joint = _muted(rng), _muted(rng)
    thick = max(1, tall // 10)
    for row, y in enumerate(range(0, height, tall)):
        for x in range(-(offset if row % 2 else 0), width, long):
            colour = dim(base, rng.uniform(0.85, 1.15))
            cv2.rectangle(image, (x, y), (x + long - thick, y + tall - thick), colour, -1)
        cv2.line(image, (0, y + tall), (width, y + tall), joint, thick)


def _planks(rng: np.random.Generator, image: np.ndarray) -> None:
    """Boards with a grain, lying or standing."""
    height, width = image.shape[:2]
    lying = rng.random() < 0.5
    extent = height if lying else width
    step = max(8, round(rng.uniform(0.07, 0.25) * extent))
    wood = hsv(rng, 0.08, rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.8))
    for start in range(0, extent, step):
        colour = dim(wood, rng.uniform(0.82, 1.18))
        board = image[start:start + step] if lying else image[:, start:start + step]
        board[:] = colour
        for at in rng.integers(0, step, 5):
            vein = board[at:at + 1] if lying else board[:, at:at + 1]
            vein[:] = dim(colour, rng.uniform(0.85, 1.1))
        edge = board[:2] if lying else board[:, :2]
        edge[:] = dim(colour, 0.55)


def _roofs(rng: np.random.Generator, image: np.ndarray) -> None:
    """A street of houses with windows under the sky."""
    height, width = image.shape[:2]
    x = 0
    while x < width:
        wide, top = round(rng.uniform(0.1, 0.3) * width), round(rng.uniform(0.2, 0.7) * height)
        wall, glass = _muted(rng), _muted(rng)
        cv2.rectangle(image, (x, top), (x + wide, height), wall, -1)
        step = max(10, round(wide / rng.integers(3, 7)))
        for row in range(top + step // 2, height, step + step // 3):
            for column in range(x + step // 3, x + wide - step // 2, step):
                cv2.rectangle(image, (column, row), (column + step // 2, row + step // 2),
                              dim(glass, rng.uniform(0.7, 1.2)), -1)
        x += wide
    cv2.rectangle(image, (0, round(0.88 * height)), (width, height), _muted(rng), -1)


def _pattern(rng: np.random.Generator, image: np.ndarray) -> None:
    """A woven or printed cloth: two families of stripes over the wash."""
    height, width = image.shape[:2]
    for axis in range(int(rng.integers(1, 3))):
        step = max(6, round(rng.uniform(0.03, 0.12) * max(height, width)))
        colour = np.array(_muted(rng), np.float32)
        for start in range(0, width if axis else height, 2 * step):
            band = image[:, start:start + step] if axis else image[start:start + step]
            band[:] = (0.65 * band + 0.35 * colour).astype(np.uint8)


_STRUCTURES = (None, _horizon, _horizon, _bricks, _planks, _roofs, _pattern)


# ---------------------------------------------------------------- clutter and decoys

def _clutter(rng: np.random.Generator, image: np.ndarray) -> None:
    """One loose thing: a line, a polygon, an ellipse or a few rows of writing."""
    height, width = image.shape[:2]
    scale = max(height, width)
    centre = rng.uniform(0, 1, 2) * (width, height)
    reach = scale * rng.uniform(0.02, 0.2)
    colour = _muted(rng)
    kind = rng.integers(4)
    if kind == 0:
        start, end = (np.round(rng.uniform(-0.1, 1.1, 2) * (width, height) * UNIT).astype(int)
                      for _ in range(2))
        cv2.line(image, start.tolist(), end.tolist(), colour,
                 max(1, round(scale * rng.uniform(0.002, 0.02))), cv2.LINE_AA, SHIFT)
    elif kind == 1:
        turn = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(3, 7))))
        _fill(image, centre + reach * np.stack([np.cos(turn), np.sin(turn)], 1), colour)
    elif kind == 2:
        _fill(image, circle(centre, reach * rng.uniform(0.3, 1.0, 2)), colour)
    else:
        _writing(rng, image, centre, reach, colour)


def _writing(rng: np.random.Generator, image: np.ndarray, centre: np.ndarray, reach: float,
             colour: Colour) -> None:
    """Rows of short strokes that look like letters and are none."""
    letter = reach * 0.25
    strokes = []
    for row in range(int(rng.integers(1, 4))):
        for column in range(int(rng.integers(3, 10))):
            corner = centre + (column * letter * 1.3, row * letter * 2.2)
            strokes.append(corner + rng.uniform(0, 1, (4, 2)) * (letter, letter * 1.6))
    fixed = [np.round(stroke * UNIT).astype(np.int32) for stroke in strokes]
    cv2.polylines(image, fixed, False, colour, max(1, round(letter * 0.2)), cv2.LINE_AA, SHIFT)


def _polygon(count: int, radius: float, turn: float) -> np.ndarray:
    angle = np.arange(count) * 2 * math.pi / count + turn
    return 0.5 + radius * np.stack([np.cos(angle), np.sin(angle)], 1)


def _decoy_road_sign(rng: np.random.Generator, size: int) -> np.ndarray:
    """A red or blue disc, triangle or square with a bar: any road sign but STOP."""
    canvas = Canvas(size)
    colour = hsv(rng, rng.choice([0.99, 0.6, 0.12]), 0.85, 0.75, 0.08)
    outline = _polygon(int(rng.choice([3, 4, 40])), 0.48, rng.choice([0, math.pi / 4, -math.pi / 2]))
    canvas.polygon(outline, hsv(rng, 0.1, 0.04, 0.93))
    canvas.polygon(0.5 + (outline - 0.5) * 0.9, colour)
    if rng.random() < 0.6:
        canvas.stroke([(0.3, 0.5), (0.7, 0.5)], 0.12, hsv(rng, 0.1, 0.04, 0.93))
    return canvas.pixels


def _decoy_disc(rng: np.random.Generator, size: int) -> np.ndarray:
    """A plain or two-coloured disc, perhaps lit like a ball."""
    canvas = Canvas(size)
    colour = hsv(rng, rng.choice([0.0, 0.06, 0.12, 0.18, rng.random()]), rng.uniform(0, 0.9), 0.8, 0.15)
    canvas.disc((0.5, 0.5), 0.48, colour)
    if rng.random() < 0.5:
        canvas.disc((0.5, 0.5), rng.uniform(0.2, 0.42), dim(colour, rng.uniform(0.5, 1.4)))
    return canvas.pixels


def _decoy_hoop(rng: np.random.Generator, size: int) -> np.ndarray:
    canvas = Canvas(size)
    canvas.stroke(circle((0.5, 0.5), 0.4), rng.uniform(0.05, 0.14), _muted(rng), closed=True)
    return canvas.pixels


def _decoy_moon(rng: np.random.Generator, size: int) -> np.ndarray:
    """A crescent, pointed at both ends."""
    canvas = Canvas(size)
    deep = rng.uniform(0.15, 0.3)
    inner = circle((0.5, 0.5), (0.48 - deep, 0.48), -math.pi / 2, math.pi / 2)[::-1]
    outer = circle((0.5, 0.5), 0.48, -math.pi / 2, math.pi / 2)
    canvas.polygon(np.concatenate([outer, inner]), hsv(rng, rng.choice([0.14, 0.6]), 0.4, 0.9, 0.2))
    return canvas.pixels


def _decoy_diamond(rng: np.random.Generator, size: int) -> np.ndarray:
    canvas = Canvas(size)
    half = rng.uniform(0.2, 0.45)
    points = [(0.5, 0.02), (0.5 + half, rng.uniform(0.3, 0.5)), (0.5, 0.98), (0.5 - half, 0.4)]
    canvas.polygon(points, hsv(rng, rng.random(), 0.7, 0.8, 0.2))
    return canvas.pixels


def _decoy_box(rng: np.random.Generator, size: int) -> np.ndarray:
    """An upright box with one lamp, a slot or a few lines: a meter, a loudspeaker, a poster."""
    canvas = Canvas(size)
    half = rng.uniform(0.15, 0.35)
    body = _muted(rng)
    canvas.polygon([(0.5 - half, 0.02), (0.5 + half, 0.02), (0.5 + half, 0.98), (0.5 - half, 0.98)],
                   body)
    ink = dim(body, 0.5) if sum(body) > 300 else dim(body, 1.8)
    if rng.random() < 0.5:
        canvas.disc((0.5, rng.uniform(0.25, 0.75)), half * 0.6, ink)
    else:
        for y in np.arange(0.15, 0.85, 0.12):
            canvas.stroke([(0.55 - half, y), (0.4 + half * rng.uniform(0.2, 1), y)], 0.03, ink)
    return canvas.pixels


def _decoy_star(rng: np.random.Generator, size: int) -> np.ndarray:
    canvas = Canvas(size)
    points = _polygon(2 * int(rng.integers(4, 8)), 0.48, -math.pi / 2)
    points[1::2] = 0.5 + (points[1::2] - 0.5) * rng.uniform(0.4, 0.7)
    canvas.polygon(points, hsv(rng, rng.random(), 0.6, 0.8, 0.2))
    return canvas.pixels


def _decoy_dome(rng: np.random.Generator, size: int) -> np.ndarray:
    """A half disc on a thick post: a mushroom or a lamp, not an umbrella."""
    canvas = Canvas(size)
    canvas.polygon([(0.4, 0.4), (0.6, 0.4), (0.63, 0.98), (0.37, 0.98)], _muted(rng))
    canvas.polygon(circle((0.5, 0.5), (0.48, 0.46), math.pi, 2 * math.pi), _muted(rng))
    return canvas.pixels


def _decoy_paddle(rng: np.random.Generator, size: int) -> np.ndarray:
    """A filled disc or oval on a stick: a paddle, a spoon, a lollipop."""
    canvas = Canvas(size)
    canvas.stroke([(0.5, 0.4), (0.5, 0.95)], rng.uniform(0.03, 0.09), _muted(rng))
    canvas.disc((0.5, 0.26), (rng.uniform(0.12, 0.24), 0.24), _muted(rng))
    return canvas.pixels


def _decoy_bar(rng: np.random.Generator, size: int) -> np.ndarray:
    """A pole or slat, the usual thing to stand in front of others."""
    canvas = Canvas(size)
    half = rng.uniform(0.02, 0.06)
    colour = _muted(rng)
    canvas.polygon([(0.5 - half, 0), (0.5 + half, 0), (0.5 + half, 1), (0.5 - half, 1)], colour)
    canvas.polygon([(0.5, 0), (0.5 + half, 0), (0.5 + half, 1), (0.5, 1)], dim(colour, 0.75))
    return canvas.pixels


DECOYS: tuple[Painter, ...] = (
    _decoy_road_sign, _decoy_disc, _decoy_hoop, _decoy_moon, _decoy_diamond, _decoy_box,
    _decoy_star, _decoy_dome, _decoy_paddle, _decoy_bar,
)
