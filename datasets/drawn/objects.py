"""The objects of the drawn data set: one short painter per class, and the table of all classes.

A painter draws into the unit square (x to the right, y down) of a Canvas.  Position, rotation,
light and occlusion are decided in stage.py.  All random choices come from the generator that is
passed, so a seed determines the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from .canvas import SHIFT, UNIT, Canvas, Painter, circle, dim, hsv, polygon
from .sports import paint_kite, paint_sports_ball, paint_tennis_racket

# ---------------------------------------------------------------- street


def paint_traffic_light(rng: np.random.Generator, size: int) -> np.ndarray:
    """An upright box with three hooded lamps, one of them lit, some on a backing board."""
    canvas = Canvas(size)
    paints = ((0.35, 0.35, 0.2), (0.6, 0.2, 0.16), (0.12, 0.85, 0.75))
    body = hsv(rng, *paints[int(rng.integers(3))])
    half = rng.uniform(0.17, 0.21)
    if rng.random() < 0.35:
        board = hsv(rng, 0.6, 0.1, rng.choice([0.12, 0.85]))
        canvas.box(0.43 - half, 0.0, 0.57 + half, 1.0, board)
    canvas.box(0.5 - half, 0.05, 0.5 + half, 0.95, body)
    canvas.box(0.54 - half, 0.02, 0.46 + half, 0.98, body)
    lit = rng.integers(3)
    for place, hue in enumerate((0.0, 0.12, 0.4)):
        x, y = 0.5, 0.19 + 0.31 * place
        on = place == lit
        canvas.polygon(circle((x, y), 0.155, math.pi, 2 * math.pi), dim(body, 0.5))
        canvas.disc((x, y), 0.13, dim(body, 0.6))
        canvas.disc((x, y), 0.115, hsv(rng, hue, 0.9 if on else 0.7, 0.97 if on else 0.28))
        if on:
            canvas.disc((x, y - 0.01), 0.06, hsv(rng, hue, 0.4, 1.0))
    return canvas.pixels


LETTERS: dict[str, list[list[tuple[float, float]]]] = {  # strokes in a unit cell
    "S": [[(1, .16), (.8, 0), (.2, 0), (0, .15), (0, .34), (.2, .48), (.8, .53), (1, .67),
           (1, .85), (.8, 1), (.2, 1), (0, .84)]],
    "T": [[(0, 0), (1, 0)], [(.5, 0), (.5, 1)]],
    "O": [[(.25, 0), (.75, 0), (1, .2), (1, .8), (.75, 1), (.25, 1), (0, .8), (0, .2), (.25, 0)]],
    "P": [[(0, 1), (0, 0), (.75, 0), (1, .14), (1, .4), (.75, .54), (0, .54)]],
}


def paint_stop_sign(rng: np.random.Generator, size: int) -> np.ndarray:
    """A red octagon with a white rim and the word STOP."""
    canvas = Canvas(size)
    white = hsv(rng, 0.1, 0.04, 0.93)
    canvas.polygon(polygon(8, 0.53, math.pi / 8), white)
    red = hsv(rng, 0.99, 0.85, 0.75, 0.08)
    canvas.polygon(polygon(8, rng.uniform(0.47, 0.5), math.pi / 8), red)
    high, thick = rng.uniform(0.26, 0.32), rng.uniform(0.042, 0.055)
    for place, letter in enumerate("STOP"):
        corner = (0.135 + 0.198 * place, 0.5 - high / 2)
        for line in LETTERS[letter]:
            canvas.stroke(np.array(line) * (0.135, high) + corner, thick, white)
    return canvas.pixels


def paint_umbrella(rng: np.random.Generator, size: int) -> np.ndarray:
    """An open umbrella from the side: panels that meet at the tip, a shaft and a hooked handle."""
    canvas = Canvas(size)
    hue = rng.random()
    first = hsv(rng, hue, rng.uniform(0.4, 0.9), rng.uniform(0.35, 0.95))
    others = (first, dim(first, 0.8), hsv(rng, 0.1, 0.05, 0.93), hsv(rng, hue + 0.4, 0.7, 0.85))
    second = others[int(rng.integers(4))]
    canvas.stroke([(0.5, 0.02), (0.5, 0.88)], 0.025, hsv(rng, 0.6, 0.08, rng.uniform(0.3, 0.7)))
    hook = circle((0.56, 0.88), (0.06, 0.09), math.pi, 0, 12)
    canvas.stroke(np.concatenate([[(0.5, 0.72)], hook]), 0.04, hsv(rng, 0.08, 0.6, 0.35))
    panels, high = int(rng.integers(4, 8)), rng.uniform(0.36, 0.46)
    rims = 0.47 * np.sin(np.linspace(-math.pi / 2, math.pi / 2, panels + 1))
    down = np.linspace(0, math.pi / 2, 14)
    fall = 0.07 + high * (1 - np.cos(down))
    ribs = [np.stack([0.5 + rim * np.sin(down), fall], 1) for rim in rims]
    for place, (left, right) in enumerate(pairwise(ribs)):
        middle, width = (left[-1] + right[-1]) / 2, (right[-1] - left[-1])[0] / 2
        scallop = circle(middle, (width, 0.045), math.pi, 2 * math.pi, 10)
        color = dim(second if place % 2 else first, 1.08 - 0.3 * place / panels)
        canvas.polygon(np.concatenate([left, scallop, right[::-1]]), color)
        canvas.stroke(left, 0.008, dim(first, 0.6))
    return canvas.pixels


def paint_banana(rng: np.random.Generator, size: int) -> np.ndarray:
    """A bent yellow fruit with a darker facet, brown ends and specks."""
    canvas = Canvas(size)
    skin = hsv(rng, rng.uniform(0.125, 0.18), 0.8, 0.92, 0.07)
    span, fat = rng.uniform(1.6, 2.5), rng.uniform(0.085, 0.125)
    t = np.linspace(0, 1, 40)
    ray = circle((0, 0), 1.0, (math.pi - span) / 2, (math.pi + span) / 2, 40)
    width = fat * np.sin(np.pi * (t * 0.93 + 0.05))[:, None] ** 0.6
    width[-5:] = np.maximum(width[-5:], 0.022)  # the stem
    spine = ray * min(0.46 / math.sin(span / 2), 0.6)
    spine += 0.5 - (spine.max(0) + spine.min(0)) / 2

    def at(share: float) -> np.ndarray:
        """The line along the fruit, ``share`` of half its width outside the spine."""
        return np.asarray(spine + share * width * ray)

    canvas.polygon(np.concatenate([at(1), at(-1)[::-1]]), skin)
    outline = canvas.outline()
    canvas.polygon(np.concatenate([at(-0.25), at(-1)[::-1]]), dim(skin, 0.78))
    canvas.stroke(at(0.35), 0.01, dim(skin, 1.15))
    brown = hsv(rng, 0.09, 0.6, 0.28)
    for end in (slice(0, 3), slice(-4, None)):
        canvas.polygon(np.concatenate([at(1.2)[end], at(-1.2)[end][::-1]]), brown)
    for place in rng.integers(4, 36, int(rng.integers(0, 14))):
        canvas.disc(at(rng.uniform(-0.8, 0.8))[place], rng.uniform(0.004, 0.016), brown)
    canvas.trim(outline)
    return canvas.pixels


def paint_pizza(rng: np.random.Generator, size: int) -> np.ndarray:
    """Crust, sauce, cheese, salami, olives or herbs; some are cut, some lack a slice."""
    canvas = Canvas(size)
    crust, start = hsv(rng, 0.085, 0.6, 0.72), rng.uniform(0, 2 * math.pi)
    gone = rng.choice([0.0, math.pi / 4, math.pi / 3], p=[0.6, 0.25, 0.15])
    wobble = 1 + 0.012 * rng.normal(size=(60, 1)).cumsum(0) / 8 * (gone == 0)
    layers = ((0.48, crust), (0.425, hsv(rng, 0.02, 0.8, 0.7)), (0.4, hsv(rng, 0.125, 0.55, 0.93)))
    outline = np.zeros(0)
    for radius, color in layers:
        arc = circle((0, 0), radius, start, start + 2 * math.pi - gone, 60) * wobble + 0.5
        canvas.polygon(np.concatenate([arc, [(0.5, 0.5)]]) if gone else arc, color)
        outline = outline if outline.size else canvas.outline()
    for _ in range(14):  # browned patches of cheese
        spot = rng.uniform(0.22, 0.78, 2)
        canvas.disc(spot, rng.uniform(0.02, 0.06), hsv(rng, 0.1, 0.6, 0.87))
    salami = hsv(rng, 0.01, 0.72, 0.68)
    for place in range(int(rng.integers(5, 11))):
        reach = 0.1 if place < 2 else rng.uniform(0.22, 0.33)
        center = circle((0.5, 0.5), reach, start + place * 2.4, 0, 1)[0]
        canvas.disc(center, 0.068, dim(salami, 0.75))
        canvas.disc(center, 0.058, salami)
    for _ in range(int(rng.integers(0, 12))):
        canvas.disc(rng.uniform(0.25, 0.75, 2), 0.024, hsv(rng, 0.28, 0.6, 0.25))
    if rng.random() < 0.6:
        for turn in start + np.arange(4) * math.pi / 4:
            ray = circle((0, 0), 0.47, turn, 0, 1)[0]
            canvas.stroke([0.5 - ray, 0.5 + ray], 0.009, dim(crust, 0.6))
    canvas.trim(outline)
    return canvas.pixels


def paint_donut(rng: np.random.Generator, size: int) -> np.ndarray:
    """A ring of dough under wavy icing with sprinkles; its hole is transparent."""
    canvas = Canvas(size)
    dough = hsv(rng, 0.085, 0.6, 0.75)
    icings = ((0.93, 0.45, 0.92), (0.06, 0.65, 0.3), (0.1, 0.06, 0.95), (0.55, 0.4, 0.85),
              (0.12, 0.6, 0.92))
    icing, hole = hsv(rng, *icings[int(rng.integers(5))]), rng.uniform(0.11, 0.16)
    canvas.disc((0.5, 0.5), 0.48, dough)
    canvas.stroke(circle((0.5, 0.5), 0.455), 0.03, dim(dough, 0.8), closed=True)
    turn = np.linspace(0, 2 * math.pi, 64)
    waves = 0.018 * np.sin(turn * rng.integers(5, 9) + rng.uniform(0, 6))[:, None]
    canvas.polygon(circle((0, 0), 0.415 + waves, steps=64) + 0.5, icing)
    canvas.stroke(circle((0.48, 0.48), 0.3, 3.4, 5.2), 0.035, dim(icing, 1.13))
    for _ in range(int(rng.integers(15, 40)) if rng.random() < 0.75 else 0):
        reach, angle, lean = rng.uniform(hole + 0.05, 0.38), *rng.uniform(0, 2 * math.pi, 2)
        center, ray = circle((0.5, 0.5), reach, angle, 0, 1)[0], circle((0, 0), 0.02, lean, 0, 1)[0]
        canvas.stroke([center - ray, center + ray], 0.016, hsv(rng, rng.random(), 0.75, 0.92))
    canvas.disc((0.5, 0.5), hole + 0.035, dim(dough, 0.85))
    kept = np.full((size, size), 255, np.uint8)
    center_fixed = (size * UNIT // 2, size * UNIT // 2)
    cv2.circle(kept, center_fixed, round(hole * size * UNIT), 0, -1, cv2.LINE_AA, SHIFT)
    canvas.trim(kept)
    return canvas.pixels


def paint_clock(rng: np.random.Generator, size: int) -> np.ndarray:
    """A round or square wall clock or an alarm clock: twelve marks and two hands."""
    canvas = Canvas(size)
    rim = hsv(rng, rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.15, 0.8))
    dark = rng.random() < 0.2
    face = hsv(rng, 0.12, 0.06, 0.16 if dark else 0.93)
    ink = hsv(rng, 0.12, 0.05, 0.92 if dark else 0.1)
    kind = int(rng.choice(3, p=[0.6, 0.2, 0.2]))
    radius, middle = (0.47, 0.42, 0.37)[kind], np.array([0.5, 0.54 if kind == 2 else 0.5])
    if kind == 1:
        canvas.box(0.03, 0.03, 0.97, 0.97, rim)
        canvas.box(0.08, 0.08, 0.92, 0.92, face)
    else:
        for side in (-1, 1) if kind == 2 else ():
            foot, bell = np.array([side * 0.26, 0.42]), np.array([side * 0.23, -0.36])
            canvas.stroke([middle, middle + foot], 0.05, dim(rim, 0.7))
            canvas.disc(middle + bell, 0.14, dim(rim, 0.85))
        canvas.disc(middle, radius, rim)
        canvas.disc(middle, radius * rng.uniform(0.82, 0.9), face)

    def hand(turns: float, start: float, end: float, thick: float) -> None:
        ray = radius * np.array([math.sin(turns * 2 * math.pi), -math.cos(turns * 2 * math.pi)])
        canvas.stroke([middle + start * ray, middle + end * ray], thick, ink)

    for hour in range(12):
        hand(hour / 12, *((0.6, 0.77, 0.035) if hour % 3 == 0 else (0.68, 0.77, 0.018)))
    time = rng.uniform(0, 12)
    hand(time / 12, -0.12, 0.42, 0.045)
    hand(time % 1, -0.12, 0.66, 0.03)
    canvas.disc(middle, 0.03, hsv(rng, 0.0, 0.8, 0.7))
    return canvas.pixels


@dataclass(frozen=True)
class Kind:
    """A class: its painter, how far it may lean (degrees) and be squashed (smallest x/y ratio)."""

    paint: Painter
    tilt: float
    squash: float


KINDS: dict[str, Kind] = {  # in the order of COCO's class ids
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
