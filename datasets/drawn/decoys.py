"""Decoys of the drawn data set: things that look similar to an object but belong to no class.

Each decoy shares a color or an outline with a class but lacks what defines it: a red disc without
STOP, a hoop without icing, a crescent moon, a diamond without spars, a box with one lamp.
"""

from __future__ import annotations

import math

import numpy as np

from .canvas import Canvas, Color, Painter, circle, dim, hsv, polygon


def muted(rng: np.random.Generator) -> Color:
    """Any color, mostly of low saturation."""
    return hsv(rng, rng.random(), rng.beta(1.3, 2.5), rng.uniform(0.2, 0.95))


def paint_road_sign(rng: np.random.Generator, size: int) -> np.ndarray:
    """A red, blue or yellow disc, triangle or square with or without a bar: any sign but STOP."""
    canvas = Canvas(size)
    white = hsv(rng, 0.1, 0.04, 0.93)
    turn = rng.choice([0, math.pi / 4, -math.pi / 2])
    outline = polygon(int(rng.choice([3, 4, 40])), 0.48, turn)
    canvas.polygon(outline, white)
    canvas.polygon(0.5 + (outline - 0.5) * 0.9, hsv(rng, rng.choice([0.99, 0.6, 0.12]), 0.85, 0.75))
    if rng.random() < 0.6:
        canvas.stroke([(0.3, 0.5), (0.7, 0.5)], 0.12, white)
    return canvas.pixels


def paint_disc(rng: np.random.Generator, size: int) -> np.ndarray:
    """A plain or two-colored disc: a plate, a lid, a frisbee."""
    canvas = Canvas(size)
    hue = rng.choice([0.0, 0.06, 0.12, 0.18, rng.random()])
    color = hsv(rng, hue, rng.uniform(0, 0.9), 0.8, 0.15)
    canvas.disc((0.5, 0.5), 0.48, color)
    if rng.random() < 0.5:
        canvas.disc((0.5, 0.5), rng.uniform(0.2, 0.42), dim(color, rng.uniform(0.5, 1.4)))
    return canvas.pixels


def paint_hoop(rng: np.random.Generator, size: int) -> np.ndarray:
    """A plain ring."""
    canvas = Canvas(size)
    canvas.stroke(circle((0.5, 0.5), 0.4), rng.uniform(0.05, 0.14), muted(rng), closed=True)
    return canvas.pixels


def paint_moon(rng: np.random.Generator, size: int) -> np.ndarray:
    """A crescent, pointed at both ends."""
    canvas = Canvas(size)
    deep, half = rng.uniform(0.15, 0.3), math.pi / 2
    inner = circle((0.4, 0.5), (0.48 - deep, 0.48), half, -half)
    outer = circle((0.4, 0.5), 0.48, -half, half)
    canvas.polygon(np.concatenate([outer, inner]), hsv(rng, rng.choice([0.14, 0.6]), 0.4, 0.9, 0.2))
    return canvas.pixels


def paint_diamond(rng: np.random.Generator, size: int) -> np.ndarray:
    """A plain diamond."""
    canvas = Canvas(size)
    half, cross = rng.uniform(0.2, 0.45), rng.uniform(0.25, 0.5)
    points = [(0.5, 0.02), (0.5 + half, cross), (0.5, 0.98), (0.5 - half, cross)]
    canvas.polygon(points, hsv(rng, rng.random(), 0.7, 0.8, 0.2))
    return canvas.pixels


def paint_box(rng: np.random.Generator, size: int) -> np.ndarray:
    """An upright box with one lamp or a few lines: a meter, a loudspeaker, a poster."""
    canvas = Canvas(size)
    half, body = rng.uniform(0.15, 0.35), muted(rng)
    canvas.box(0.5 - half, 0.02, 0.5 + half, 0.98, body)
    ink = dim(body, 0.5) if sum(body) > 300 else dim(body, 1.8)
    if rng.random() < 0.5:
        canvas.disc((0.5, rng.uniform(0.25, 0.75)), half * 0.6, ink)
        return canvas.pixels
    for y in np.arange(0.15, 0.85, 0.12):
        canvas.stroke([(0.55 - half, y), (0.4 + half * rng.uniform(0.2, 1), y)], 0.03, ink)
    return canvas.pixels


def paint_star(rng: np.random.Generator, size: int) -> np.ndarray:
    """A star of four to seven points."""
    canvas = Canvas(size)
    points = polygon(2 * int(rng.integers(4, 8)), 0.48, -math.pi / 2)
    points[1::2] = 0.5 + (points[1::2] - 0.5) * rng.uniform(0.4, 0.7)
    canvas.polygon(points, hsv(rng, rng.random(), 0.6, 0.8, 0.2))
    return canvas.pixels


def paint_dome(rng: np.random.Generator, size: int) -> np.ndarray:
    """A half disc on a thick post: a mushroom or a lamp, not an umbrella."""
    canvas = Canvas(size)
    canvas.polygon([(0.4, 0.4), (0.6, 0.4), (0.63, 0.98), (0.37, 0.98)], muted(rng))
    canvas.polygon(circle((0.5, 0.5), (0.48, 0.46), math.pi, 2 * math.pi), muted(rng))
    return canvas.pixels


def paint_paddle(rng: np.random.Generator, size: int) -> np.ndarray:
    """A filled disc or oval on a stick: a paddle, a spoon, a lollipop."""
    canvas = Canvas(size)
    canvas.stroke([(0.5, 0.4), (0.5, 0.95)], rng.uniform(0.03, 0.09), muted(rng))
    canvas.disc((0.5, 0.26), (rng.uniform(0.12, 0.24), 0.24), muted(rng))
    return canvas.pixels


def paint_pole(rng: np.random.Generator, size: int) -> np.ndarray:
    """A pole or slat, which often covers other things."""
    canvas = Canvas(size)
    half, color = rng.uniform(0.02, 0.06), muted(rng)
    canvas.box(0.5 - half, 0, 0.5 + half, 1, color)
    canvas.box(0.5, 0, 0.5 + half, 1, dim(color, 0.75))
    return canvas.pixels


DECOYS: tuple[Painter, ...] = (
    paint_road_sign, paint_disc, paint_hoop, paint_moon, paint_diamond, paint_box, paint_star,
    paint_dome, paint_paddle, paint_pole,
)
