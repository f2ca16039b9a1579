"""Painters of sports things: randomly rotated balls, kites, tennis rackets."""

from __future__ import annotations

import math

import numpy as np

from .canvas import Canvas, Color, circle, dim, hsv

BALL = 0.48  # radius of a ball on its canvas


def paint_sports_ball(rng: np.random.Generator, size: int) -> np.ndarray:
    """A football, basketball, tennis ball or baseball."""
    canvas = Canvas(size)
    kind = int(rng.choice(4, p=[0.4, 0.3, 0.2, 0.1]))
    base = ((0.1, 0.03, 0.9), (0.055, 0.82, 0.82), (0.19, 0.7, 0.88), (0.1, 0.07, 0.9))[kind]
    canvas.disc((0.5, 0.5), BALL, hsv(rng, *base))
    outline = canvas.outline()
    if kind == 0:
        _pentagons(rng, canvas)
    elif kind == 1:
        _ribs(rng, canvas)
    else:
        _seam(rng, canvas, hsv(rng, 0.15, 0.05, 0.97) if kind == 2 else hsv(rng, 0.0, 0.8, 0.7))
    canvas.trim(outline)
    canvas.light(_sphere_light(rng))
    return canvas.pixels


def _turned(rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
    """Points [N,3], projected to the unit sphere and rotated at random (a uniform quaternion)."""
    quaternion = rng.normal(size=4)
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    matrix = np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                       [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                       [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])
    unit: np.ndarray = points / np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(unit @ matrix.T)


def _near_side(canvas: Canvas, points: np.ndarray, width: float, color: Color) -> None:
    """Draw the visible part of a curve [N,3] on the unit sphere."""
    flat = 0.5 + BALL * points[:, :2]
    near = np.flatnonzero(points[:, 2] > 0)
    for run in np.split(near, np.flatnonzero(np.diff(near) > 1) + 1):
        if len(run) > 1:
            canvas.stroke(flat[run], width, color)


def _pentagons(rng: np.random.Generator, canvas: Canvas) -> None:
    """Pentagons around the twelve corners of an icosahedron, seams along its edges."""
    gold = (1 + math.sqrt(5)) / 2
    points = [p for a in (-1.0, 1.0) for b in (-gold, gold)
              for p in ((0.0, a, b), (a, b, 0.0), (b, 0.0, a))]
    corners = _turned(rng, np.array(points))
    dark = hsv(rng, rng.random(), rng.choice([0.2, 0.9]), rng.uniform(0.1, 0.3))
    turn = np.arange(5)[:, None] * 2 * math.pi / 5
    for number, corner in enumerate(corners):
        next_ones = np.flatnonzero(np.isclose(corners @ corner, 1 / math.sqrt(5)))  # five of them
        for other in corners[next_ones[next_ones > number]]:
            edge = corner + np.linspace(0, 1, 5)[:, None] * (other - corner)
            edge /= np.linalg.norm(edge, axis=1, keepdims=True)
            _near_side(canvas, edge, 0.012, dark)
        side = corners[next_ones[0]] - corner / math.sqrt(5)
        side /= np.linalg.norm(side)
        around = np.cos(turn) * side + np.sin(turn) * np.cross(corner, side)
        if corner[2] > -0.1:
            flat = (math.cos(0.36) * corner + math.sin(0.36) * around)[:, :2]
            canvas.polygon(0.5 + BALL * flat, dark)


def _ribs(rng: np.random.Generator, canvas: Canvas) -> None:
    """The two great and two small circles of a basketball."""
    t = np.linspace(0, 2 * math.pi, 60)
    zero, far = np.zeros(60), np.full(60, 0.75)
    curves = [np.stack([np.cos(t), np.sin(t), zero], 1), np.stack([zero, np.cos(t), np.sin(t)], 1)]
    curves += [np.stack([sign * far, 0.66 * np.cos(t), 0.66 * np.sin(t)], 1) for sign in (-1, 1)]
    dark = hsv(rng, 0.05, 0.5, 0.14)
    for part in np.split(_turned(rng, np.concatenate(curves)), 4):
        _near_side(canvas, part, 0.022, dark)


def _seam(rng: np.random.Generator, canvas: Canvas, color: Color) -> None:
    """The closed seam of a tennis ball or a baseball."""
    t = np.linspace(0, 2 * math.pi, 60)
    curve = np.stack([0.72 * np.cos(t) + 0.28 * np.cos(3 * t),
                      0.72 * np.sin(t) - 0.28 * np.sin(3 * t), 0.9 * np.sin(2 * t)], 1)
    _near_side(canvas, _turned(rng, curve), 0.03, color)


def _sphere_light(rng: np.random.Generator) -> np.ndarray:
    """Lambert's law with a soft highlight for a ball, [48,48], for Canvas.light."""
    axis = ((np.arange(48) + 0.5) / 48 - 0.5) / BALL
    x, y = np.meshgrid(axis, axis)
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    azimuth = rng.uniform(0, 2 * math.pi)
    lamp = np.array([0.6 * math.cos(azimuth), 0.45 * math.sin(azimuth) - 0.35, 0.75])
    lamp /= np.linalg.norm(lamp)
    facing: np.ndarray = np.clip(x * lamp[0] + y * lamp[1] + z * lamp[2], 0, 1)
    return 0.45 + 0.62 * facing + 0.5 * facing**24


def paint_kite(rng: np.random.Generator, size: int) -> np.ndarray:
    """A four-panelled diamond on crossed spars, with a tail of bows."""
    canvas = Canvas(size)
    hue = rng.random()
    first = hsv(rng, hue, 0.85, 0.9, 0.1)
    second = hsv(rng, hue + rng.uniform(0.15, 0.85), rng.choice([0.05, 0.8, 0.8]), 0.9, 0.1)
    half, cross, bottom = rng.uniform(0.26, 0.36), rng.uniform(0.2, 0.3), rng.uniform(0.62, 0.72)
    top, low = (0.5, 0.02), (0.5, bottom)
    left, right, middle = (0.5 - half, cross), (0.5 + half, cross), (0.5, cross)
    sway = rng.uniform(0.04, 0.1) * rng.choice([-1, 1])
    along = np.linspace(0, 1, 24)
    sideways = 0.5 + sway * np.sin(along * 2.2 * math.pi)
    tail = np.stack([sideways, bottom + (0.97 - bottom) * along], 1)
    canvas.stroke(tail, 0.018, dim(second, 0.45))
    for place in (8, 14, 20):
        bow = [(-0.055, -0.03), (0.055, 0.03), (0.055, -0.03), (-0.055, 0.03)]
        canvas.polygon(tail[place] + bow, first if place == 14 else second)
    panels = ((left, top, first), (top, right, second), (right, low, first), (low, left, second))
    for corner, other, color in panels:
        canvas.polygon([middle, corner, other], color)
    for spar in ([top, low], [left, right]):
        canvas.stroke(spar, 0.012, dim(first, 0.45))
    return canvas.pixels


def paint_tennis_racket(rng: np.random.Generator, size: int) -> np.ndarray:
    """An oval of strings in a colored frame, throat and wrapped grip, upright."""
    canvas = Canvas(size)
    frame = hsv(rng, rng.random(), rng.uniform(0.2, 0.95), rng.uniform(0.2, 0.9))
    head, radius = np.array([0.5, 0.27]), np.array([rng.uniform(0.18, 0.21), 0.25])
    strings = hsv(rng, 0.15, 0.08, rng.uniform(0.75, 0.95))
    for offset in np.linspace(-0.85, 0.85, 9):
        reach = math.sqrt(1 - offset * offset)
        for ends in ([(offset, -reach), (offset, reach)], [(-reach, offset), (reach, offset)]):
            canvas.stroke(head + np.array(ends) * radius, 0.006, strings)
    canvas.stroke([(0.36, 0.45), (0.47, 0.64)], 0.032, frame)
    canvas.stroke([(0.64, 0.45), (0.53, 0.64)], 0.032, frame)
    canvas.stroke(circle(head, radius), 0.04, frame, closed=True)
    canvas.stroke([(0.5, 0.62), (0.5, 0.72)], 0.05, frame)
    grip = hsv(rng, rng.random(), 0.3, rng.uniform(0.1, 0.5))
    canvas.polygon([(0.468, 0.7), (0.532, 0.7), (0.537, 0.98), (0.463, 0.98)], grip)
    for y in np.linspace(0.73, 0.95, 6):
        canvas.stroke([(0.47, y + 0.015), (0.53, y - 0.015)], 0.008, dim(grip, 1.5))
    return canvas.pixels
