"""The objects of the embedded data set: one short painter a class, each returning an RGBA patch.

A painter draws into the unit square (x to the right, y down) of a square Canvas and knows nothing of the scene: where
the object stands, how it is turned, squashed, lit or covered is decided by whoever places the patch.  Patches hold
premultiplied colour, because OpenCV's anti-aliased drawing on an empty four-channel picture produces exactly that, and
because premultiplied patches may be warped and blended without dark fringes.  Every shape, colour and detail is drawn
from the generator that is handed in, so that a seed fixes the picture.  Left out: anything that needs a font or a file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from .draw_canvas import SHIFT, UNIT, Canvas, Colour, Painter, circle, dim, hsv

def sphere_light(rng: np.random.Generator, radius: float = 0.48) -> np.ndarray:
    """Lambert shading with a soft highlight for a ball in the middle of the canvas, [48,48] for Canvas.light."""
    axis = (np.arange(48) + 0.5) / 48 - 0.5
    x, y = np.meshgrid(axis / radius, axis / radius)
    z = np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    azimuth = rng.uniform(0, 2 * math.pi)
    lamp = np.array([0.6 * math.cos(azimuth), 0.45 * math.sin(azimuth) - 0.35, 0.75])
    facing = np.clip((x * lamp[0] + y * lamp[1] + z * lamp[2]) / np.linalg.norm(lamp), 0, 1)
    return 0.45 + 0.62 * facing + 0.5 * facing ** 24


def turned(rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
    """Points [N,3] of the unit sphere after one random rotation (a uniform quaternion)."""
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    matrix = np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                       [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                       [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])
    return points @ matrix.T


# ---------------------------------------------------------------- street

def paint_traffic_light(rng: np.random.Generator, size: int) -> np.ndarray:
    """A dark upright box with three hooded lamps, one of them lit."""
    canvas = Canvas(size)
    body = hsv(rng, *[(0.35, 0.35, 0.2), (0.6, 0.2, 0.16), (0.12, 0.85, 0.75)][rng.integers(3)])
    half = rng.uniform(0.17, 0.21)
    if rng.random() < 0.35:  # the backing board of many countries
        board = [(0.5 - half - 0.07, 0.0), (0.5 + half + 0.07, 0.0), (0.5 + half + 0.07, 1.0), (0.5 - half - 0.07, 1.0)]
        canvas.polygon(board, hsv(rng, 0.6, 0.1, rng.choice([0.12, 0.85])))
    canvas.polygon([(0.5 - half, 0.06), (0.5 - half + 0.04, 0.02), (0.5 + half - 0.04, 0.02), (0.5 + half, 0.06),
                    (0.5 + half, 0.94), (0.5 + half - 0.04, 0.98), (0.5 - half + 0.04, 0.98), (0.5 - half, 0.94)], body)
    lit = rng.integers(3)
    for place, hue in enumerate((0.0, 0.12, 0.4)):
        centre = (0.5, 0.19 + 0.31 * place)
        on = place == lit
        canvas.polygon(circle(centre, 0.155, math.pi, 2 * math.pi), dim(body, 0.5))
        canvas.disc(centre, 0.13, dim(body, 0.6))
        canvas.disc(centre, 0.115, hsv(rng, hue, 0.9 if on else 0.7, 0.97 if on else 0.28))
        if on:
            canvas.disc((0.5, centre[1] - 0.01), 0.06, hsv(rng, hue, 0.4, 1.0))
    return canvas.pixels


LETTERS = {
    "S": [[(1, .16), (.8, 0), (.2, 0), (0, .15), (0, .34), (.2, .48), (.8, .53), (1, .67), (1, .85), (.8, 1), (.2, 1),
           (0, .84)]],
    "T": [[(0, 0), (1, 0)], [(.5, 0), (.5, 1)]],
    "O": [[(.25, 0), (.75, 0), (1, .2), (1, .8), (.75, 1), (.25, 1), (0, .8), (0, .2), (.25, 0)]],
    "P": [[(0, 1), (0, 0), (.75, 0), (1, .14), (1, .4), (.75, .54), (0, .54)]],
}


def paint_stop_sign(rng: np.random.Generator, size: int) -> np.ndarray:
    """A red octagon with a white rim and the word STOP."""
    canvas = Canvas(size)
    corners = np.arange(8) * math.pi / 4 + math.pi / 8
    octagon = np.stack([np.cos(corners), np.sin(corners)], 1)
    white = hsv(rng, 0.1, 0.04, 0.93)
    canvas.polygon(0.5 + 0.53 * octagon, white)
    canvas.polygon(0.5 + rng.uniform(0.47, 0.5) * octagon, hsv(rng, 0.99, 0.85, 0.75, 0.08))
    high = rng.uniform(0.26, 0.32)
    thick = rng.uniform(0.042, 0.055)
    for place, letter in enumerate("STOP"):
        for line in LETTERS[letter]:
            canvas.stroke(np.array(line) * (0.135, high) + (0.135 + 0.198 * place, 0.5 - high / 2), thick, white)
    return canvas.pixels


# ---------------------------------------------------------------- outdoors

def paint_umbrella(rng: np.random.Generator, size: int) -> np.ndarray:
    """An open umbrella from the side: panels that meet at the tip, a shaft and a hooked handle."""
    canvas = Canvas(size)
    hue, steel = rng.random(), hsv(rng, 0.6, 0.08, rng.uniform(0.3, 0.7))
    first = hsv(rng, hue, rng.uniform(0.5, 0.9), rng.uniform(0.45, 0.95))
    second = [first, dim(first, 0.8), hsv(rng, 0.1, 0.05, 0.93), hsv(rng, hue + 0.4, 0.7, 0.85)][rng.integers(4)]
    canvas.stroke([(0.5, 0.02), (0.5, 0.88)], 0.025, steel)
    canvas.stroke(np.concatenate([[(0.5, 0.72)], circle((0.56, 0.88), (0.06, 0.09), math.pi, 0, 12)]), 0.04,
                  hsv(rng, 0.08, 0.6, 0.35))
    panels = int(rng.integers(4, 8))
    rims = 0.47 * np.sin(np.linspace(-math.pi / 2, math.pi / 2, panels + 1))
    high = rng.uniform(0.36, 0.46)
    down = np.linspace(0, math.pi / 2, 14)
    ribs = [np.stack([0.5 + rim * np.sin(down), 0.07 + high * (1 - np.cos(down))], 1) for rim in rims]
    for place, (left, right) in enumerate(pairwise(ribs)):
        middle = (left[-1] + right[-1]) / 2
        width = (right[-1] - left[-1])[0] / 2
        scallop = circle(middle, (width, 0.045), math.pi, 2 * math.pi, 10)
        shade = 1.08 - 0.3 * place / panels
        canvas.polygon(np.concatenate([left, scallop, right[::-1]]), dim(second if place % 2 else first, shade))
        canvas.stroke(left, 0.008, dim(first, 0.6))
    return canvas.pixels


def paint_kite(rng: np.random.Generator, size: int) -> np.ndarray:
    """A four-panelled diamond on crossed spars, with a tail of bows."""
    canvas = Canvas(size)
    hue = rng.random()
    first = hsv(rng, hue, 0.85, 0.9, 0.1)
    second = hsv(rng, hue + rng.uniform(0.2, 0.8), 0.8, 0.9, 0.15)
    half, cross, bottom = rng.uniform(0.26, 0.36), rng.uniform(0.2, 0.3), rng.uniform(0.62, 0.72)
    top, left, right, low = (0.5, 0.02), (0.5 - half, cross), (0.5 + half, cross), (0.5, bottom)
    sway = rng.uniform(0.04, 0.1) * rng.choice([-1, 1])
    along = np.linspace(0, 1, 24)
    tail = np.stack([0.5 + sway * np.sin(along * 2.2 * math.pi), bottom + (0.97 - bottom) * along], 1)
    canvas.stroke(tail, 0.014, dim(second, 0.6))
    for place in (8, 14, 20):
        x, y = tail[place]
        canvas.polygon([(x - 0.055, y - 0.03), (x + 0.055, y + 0.03), (x + 0.055, y - 0.03), (x - 0.055, y + 0.03)],
                       first if place == 14 else second)
    middle = (0.5, cross)
    for corner, other, colour in ((left, top, first), (top, right, second), (right, low, first), (low, left, second)):
        canvas.polygon([middle, corner, other], colour)
    canvas.stroke([top, low], 0.012, dim(first, 0.45))
    canvas.stroke([left, right], 0.012, dim(first, 0.45))
    return canvas.pixels


# ---------------------------------------------------------------- sports

def _seams(canvas: Canvas, points: np.ndarray, width: float, colour: Colour) -> None:
    """Draw the near side of a curve [N,3] on the unit sphere."""
    flat = 0.5 + 0.48 * points[:, :2]
    near = points[:, 2] > 0
    for start in np.flatnonzero(near[:-1] & near[1:]):
        canvas.stroke(flat[start:start + 2], width, colour)


def _football(rng: np.random.Generator, canvas: Canvas) -> None:
    """Black pentagons round the twelve corners of an icosahedron, seams along its edges."""
    gold = (1 + math.sqrt(5)) / 2
    corners = np.array([p for a in (-1, 1) for b in (-gold, gold) for p in ((0, a, b), (a, b, 0), (b, 0, a))], float)
    corners = turned(rng, corners / np.linalg.norm(corners, axis=1, keepdims=True))
    dark = hsv(rng, rng.random(), 0.3, 0.12)
    for corner in corners:
        others = corners[np.isclose(corners @ corner, 1 / math.sqrt(5))]  # the five next corners
        for other in others[(others @ np.ones(3)) > corner @ np.ones(3)]:
            edge = corner + np.linspace(0, 1, 5)[:, None] * (other - corner)
            _seams(canvas, edge / np.linalg.norm(edge, axis=1, keepdims=True), 0.012, dark)
        side = others[0] - corner * (others[0] @ corner)
        side /= np.linalg.norm(side)
        turn = np.arange(5)[:, None] * 2 * math.pi / 5
        ring = corner * math.cos(0.36) + math.sin(0.36) * (np.cos(turn) * side + np.sin(turn) * np.cross(corner, side))
        if corner[2] > -0.1:
            canvas.polygon(0.5 + 0.48 * ring[:, :2], dark)


def paint_sports_ball(rng: np.random.Generator, size: int) -> np.ndarray:
    """A football, basketball, tennis ball or baseball, turned at random in space."""
    canvas = Canvas(size)
    kind = rng.choice(["football", "basketball", "tennis", "baseball"], p=[0.4, 0.3, 0.2, 0.1])
    base = {"football": (0.1, 0.03, 0.9), "basketball": (0.055, 0.82, 0.82), "tennis": (0.19, 0.7, 0.88),
            "baseball": (0.1, 0.07, 0.9)}[str(kind)]
    canvas.disc((0.5, 0.5), 0.48, hsv(rng, *base))
    outline = canvas.pixels[:, :, 3].copy()
    t = np.linspace(0, 2 * math.pi, 60)
    if kind == "football":
        _football(rng, canvas)
    elif kind == "basketball":
        wave = 0.75 * np.ones_like(t)
        curves = [np.stack([np.cos(t), np.sin(t), 0 * t], 1), np.stack([0 * t, np.cos(t), np.sin(t)], 1)]
        curves += [np.stack([sign * wave, 0.66 * np.cos(t), 0.66 * np.sin(t)], 1) for sign in (-1, 1)]
        points = turned(rng, np.concatenate(curves))
        for part in np.split(points, 4):
            _seams(canvas, part, 0.022, hsv(rng, 0.05, 0.5, 0.14))
    else:  # the seam of a tennis ball and of a baseball: x = a cos t + b cos 3t, ...
        curve = np.stack([np.cos(t) * 0.72 + 0.28 * np.cos(3 * t), np.sin(t) * 0.72 - 0.28 * np.sin(3 * t),
                          0.9 * np.sin(2 * t)], 1)
        curve = turned(rng, curve / np.linalg.norm(curve, axis=1, keepdims=True))
        _seams(canvas, curve, 0.03, hsv(rng, 0.15, 0.05, 0.97) if kind == "tennis" else hsv(rng, 0.0, 0.8, 0.7))
    canvas.trim(outline)
    canvas.light(sphere_light(rng))
    return canvas.pixels


def paint_tennis_racket(rng: np.random.Generator, size: int) -> np.ndarray:
    """An oval of strings in a coloured frame, throat and wrapped grip, upright."""
    canvas = Canvas(size)
    frame = hsv(rng, rng.random(), rng.uniform(0.2, 0.95), rng.uniform(0.2, 0.9))
    head, radius = (0.5, 0.27), np.array([rng.uniform(0.18, 0.21), 0.25])
    strings = hsv(rng, 0.15, 0.08, rng.uniform(0.75, 0.95))
    for offset in np.linspace(-0.85, 0.85, 9):
        reach = math.sqrt(1 - offset * offset)
        x, y = head[0] + offset * radius[0], head[1] + offset * radius[1]
        canvas.stroke([(x, head[1] - reach * radius[1]), (x, head[1] + reach * radius[1])], 0.006, strings)
        canvas.stroke([(head[0] - reach * radius[0], y), (head[0] + reach * radius[0], y)], 0.006, strings)
    canvas.stroke([(0.36, 0.45), (0.47, 0.64)], 0.028, frame)
    canvas.stroke([(0.64, 0.45), (0.53, 0.64)], 0.028, frame)
    canvas.stroke(circle(head, radius), 0.034, frame, closed=True)
    canvas.stroke([(0.5, 0.62), (0.5, 0.72)], 0.045, frame)
    grip = hsv(rng, rng.random(), 0.3, rng.uniform(0.1, 0.5))
    canvas.polygon([(0.47, 0.7), (0.53, 0.7), (0.535, 0.98), (0.465, 0.98)], grip)
    for y in np.linspace(0.73, 0.95, 6):
        canvas.stroke([(0.47, y + 0.015), (0.53, y - 0.015)], 0.008, dim(grip, 1.5))
    return canvas.pixels


# ---------------------------------------------------------------- food

def paint_banana(rng: np.random.Generator, size: int) -> np.ndarray:
    """A bent yellow fruit with a darker facet, brown ends and specks."""
    canvas = Canvas(size)
    skin = hsv(rng, rng.uniform(0.125, 0.17), 0.8, 0.92, 0.07)
    span, fat = rng.uniform(1.7, 2.5), rng.uniform(0.085, 0.12)
    radius = min(0.46 / math.sin(span / 2), 0.6)
    t = np.linspace(0, 1, 40)
    angle = math.pi / 2 + (t - 0.5) * span
    ray = np.stack([np.cos(angle), np.sin(angle)], 1)
    width = fat * np.clip(np.sin(np.pi * np.clip(t * 0.93 + 0.05, 0, 1)), 0, 1)[:, None] ** 0.6
    width[-5:] = np.maximum(width[-5:], 0.022)  # the stem
    spine = ray * radius
    spine = spine - (spine.max(0) + spine.min(0)) / 2 + 0.5
    canvas.polygon(np.concatenate([spine + width * ray, (spine - width * ray)[::-1]]), skin)
    outline = canvas.pixels[:, :, 3].copy()
    canvas.polygon(np.concatenate([spine - 0.25 * width * ray, (spine - width * ray)[::-1]]), dim(skin, 0.78))
    canvas.stroke(spine + 0.35 * width * ray, 0.01, dim(skin, 1.15))
    brown = hsv(rng, 0.09, 0.6, 0.28)
    for end in (slice(0, 3), slice(-4, None)):
        canvas.polygon(np.concatenate([(spine + 1.2 * width * ray)[end], (spine - 1.2 * width * ray)[end][::-1]]), brown)
    for place in rng.integers(4, 36, int(rng.integers(0, 12))):
        spot = spine[place] + width[place] * ray[place] * rng.uniform(-0.8, 0.8)
        canvas.disc(spot, rng.uniform(0.004, 0.014), brown)
    canvas.trim(outline)
    return canvas.pixels


def paint_pizza(rng: np.random.Generator, size: int) -> np.ndarray:
    """A round pizza with crust, cheese, salami, olives and herbs; sometimes cut, sometimes with a slice gone."""
    canvas = Canvas(size)
    crust = hsv(rng, 0.085, 0.6, 0.72)
    start = rng.uniform(0, 2 * math.pi)
    gone = rng.choice([0.0, math.pi / 4, math.pi / 3], p=[0.6, 0.25, 0.15])
    def round_of(radius: float) -> np.ndarray:
        arc = circle((0.5, 0.5), radius, start, start + 2 * math.pi - gone, 60)
        wobble = 1 + 0.02 * np.sin(np.arange(60) * 0.9)[:, None] * (gone == 0)
        arc = 0.5 + (arc - 0.5) * wobble
        return np.concatenate([arc, [(0.5, 0.5)]]) if gone else arc
    canvas.polygon(round_of(0.48), crust)
    outline = canvas.pixels[:, :, 3].copy()
    canvas.polygon(round_of(0.425), hsv(rng, 0.02, 0.8, 0.7))
    canvas.polygon(round_of(0.40), hsv(rng, 0.125, 0.55, 0.93))
    for _ in range(14):  # browned patches of cheese
        spot = 0.5 + rng.uniform(-0.28, 0.28, 2)
        canvas.disc(spot, rng.uniform(0.02, 0.06), hsv(rng, 0.1, 0.6, 0.87))
    salami = hsv(rng, 0.01, 0.72, 0.68)
    for place in range(int(rng.integers(6, 11))):
        reach = 0.1 if place < 2 else rng.uniform(0.22, 0.33)
        turn = start + place * 2.4
        centre = (0.5 + reach * math.cos(turn), 0.5 + reach * math.sin(turn))
        canvas.disc(centre, 0.068, dim(salami, 0.75))
        canvas.disc(centre, 0.058, salami)
    for _ in range(int(rng.integers(0, 9))):
        spot = 0.5 + rng.uniform(-0.25, 0.25, 2)
        canvas.disc(spot, 0.024, hsv(rng, 0.28, 0.6, 0.25))
    if rng.random() < 0.6:
        for turn in start + np.arange(4) * math.pi / 4:
            ray = np.array([math.cos(turn), math.sin(turn)]) * 0.47
            canvas.stroke([0.5 - ray, 0.5 + ray], 0.009, dim(crust, 0.6))
    canvas.trim(outline)
    return canvas.pixels


def paint_donut(rng: np.random.Generator, size: int) -> np.ndarray:
    """A ring of dough under wavy icing with sprinkles; the hole is a hole."""
    canvas = Canvas(size)
    dough = hsv(rng, 0.085, 0.6, 0.75)
    icing = hsv(rng, *[(0.93, 0.45, 0.92), (0.06, 0.65, 0.3), (0.1, 0.06, 0.95), (0.55, 0.4, 0.85),
                       (0.12, 0.6, 0.92)][rng.integers(5)])
    hole = rng.uniform(0.11, 0.16)
    canvas.disc((0.5, 0.5), 0.48, dough)
    canvas.stroke(circle((0.5, 0.5), 0.455), 0.03, dim(dough, 0.8), closed=True)
    turn = np.linspace(0, 2 * math.pi, 64)
    waves = 0.415 + 0.018 * np.sin(turn * rng.integers(5, 9) + rng.uniform(0, 6))[:, None]
    canvas.polygon(0.5 + waves * np.stack([np.cos(turn), np.sin(turn)], 1), icing)
    canvas.stroke(circle((0.48, 0.48), 0.3, 3.4, 5.2), 0.035, dim(icing, 1.13))
    if rng.random() < 0.75:
        for _ in range(int(rng.integers(15, 40))):
            angle, reach = rng.uniform(0, 2 * math.pi), rng.uniform(hole + 0.05, 0.38)
            centre = np.array([0.5 + reach * math.cos(angle), 0.5 + reach * math.sin(angle)])
            ray = circle((0, 0), 0.02, rng.uniform(0, 6), 7.0, 2)[0]
            canvas.stroke([centre - ray, centre + ray], 0.016, hsv(rng, rng.random(), 0.75, 0.92))
    canvas.disc((0.5, 0.5), hole + 0.035, dim(dough, 0.85))
    inside = np.zeros((size, size), np.uint8)
    cv2.circle(inside, (size * UNIT // 2, size * UNIT // 2), round(hole * size * UNIT), 255, -1, cv2.LINE_AA, SHIFT)
    canvas.trim(cv2.bitwise_not(inside))
    return canvas.pixels


# ---------------------------------------------------------------- indoors

def paint_clock(rng: np.random.Generator, size: int) -> np.ndarray:
    """A round or square wall clock, or an alarm clock with bells and feet: twelve marks and two or three hands."""
    canvas = Canvas(size)
    rim = hsv(rng, rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.15, 0.8))
    dark = rng.random() < 0.2
    face = hsv(rng, 0.12, 0.06, 0.16 if dark else 0.93)
    ink = hsv(rng, 0.12, 0.05, 0.92 if dark else 0.1)
    radius, middle = 0.47, np.array([0.5, 0.5])
    kind = rng.choice(["wall", "square", "alarm"], p=[0.6, 0.2, 0.2])
    if kind == "alarm":
        radius, middle = 0.37, np.array([0.5, 0.54])
        for side in (-1, 1):
            canvas.stroke([middle, middle + (side * 0.26, 0.42)], 0.05, dim(rim, 0.7))
            canvas.disc(middle + (side * 0.23, -0.36), 0.14, dim(rim, 0.85))
    if kind == "square":
        canvas.polygon([(0.03, 0.03), (0.97, 0.03), (0.97, 0.97), (0.03, 0.97)], rim)
        canvas.polygon([(0.08, 0.08), (0.92, 0.08), (0.92, 0.92), (0.08, 0.92)], face)
        radius = 0.42
    else:
        canvas.disc(middle, radius, rim)
        canvas.disc(middle, radius * rng.uniform(0.82, 0.9), face)
    for hour in range(12):
        ray = np.array([math.sin(hour * math.pi / 6), -math.cos(hour * math.pi / 6)]) * radius
        long, thick = (0.6, 0.035) if hour % 3 == 0 else (0.68, 0.018)
        canvas.stroke([middle + long * ray, middle + 0.77 * ray], thick, ink)
    time = rng.uniform(0, 12)
    for turn, long, thick in ((time / 12, 0.42, 0.045), (time % 1.0, 0.66, 0.03)):
        ray = np.array([math.sin(turn * 2 * math.pi), -math.cos(turn * 2 * math.pi)]) * radius
        canvas.stroke([middle - 0.12 * ray, middle + long * ray], thick, ink)
    canvas.disc(middle, 0.03, hsv(rng, 0.0, 0.8, 0.7))
    return canvas.pixels


@dataclass(frozen=True)
class Kind:
    """A class of object: its painter, how far it may lean (degrees either way) and be squashed (smallest x/y ratio)."""

    paint: Painter
    tilt: float
    squash: float


KINDS: dict[str, Kind] = {  # in the order of COCO's own class ids
    "traffic light": Kind(paint_traffic_light, 10, 0.85),
    "stop sign": Kind(paint_stop_sign, 18, 0.6),
    "umbrella": Kind(paint_umbrella, 45, 0.8),
    "sports ball": Kind(paint_sports_ball, 180, 0.95),
    "kite": Kind(paint_kite, 60, 0.7),
    "tennis racket": Kind(paint_tennis_racket, 180, 0.75),
    "banana": Kind(paint_banana, 180, 0.85),
    "pizza": Kind(paint_pizza, 180, 0.5),
    "donut": Kind(paint_donut, 180, 0.55),
    "clock": Kind(paint_clock, 12, 0.65),
}
