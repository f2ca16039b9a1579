"""The arithmetic of augmentation: affine matrices, boxes that follow them, and color.

A matrix is [2,3] float64 and maps continuous pixel coordinates (pixel i covers [i, i + 1]) of an
image to those of the output.  Every geometric augmentation, flips included, is one such matrix,
so that pixels are interpolated once and boxes are computed from the same numbers that move the
pixels. Random numbers come from the caller's generator.  Nothing here draws an image or reads a
file.

Not supported: perspective, and color operations other than hue, saturation and value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

Size = tuple[int, int]
"""(height, width)."""
_STRIP_BYTES = 320 * 1024
MIN_SIDE = 2.0
"""Boxes no wider or no higher than this many output pixels are dropped."""
MIN_AREA_SHARE = 0.1
"""Boxes of which no more than this share stays inside the output are dropped."""
MAX_ASPECT = 100.0
"""Boxes at least this many times longer than wide are dropped."""


@dataclass(frozen=True)
class Augment:
    """What is done to training images.  Fields as in the training configuration.

    hsv_h, hsv_s, hsv_v: largest shift of hue (share of the circle) and relative change of
    saturation and value.  degrees, shear: largest angles.  translate: largest shift as a share of
    the image. scale: zoom in [1 - scale, 1 + scale].  flipud, fliplr, mosaic, mixup:
    probabilities. close_epoch: mosaic and mixup are off from this epoch (counted from 0) on.
    """

    hsv_h: float
    hsv_s: float
    hsv_v: float
    degrees: float
    translate: float
    scale: float
    shear: float
    flipud: float
    fliplr: float
    mosaic: float
    mixup: float
    close_epoch: int


def random_flips(rng: np.random.Generator, augment: Augment) -> tuple[bool, bool]:
    """Whether to flip (upside down, left to right)."""
    vertical, horizontal = rng.random(2).tolist()
    return vertical < augment.flipud, horizontal < augment.fliplr


def random_affine(
    rng: np.random.Generator,
    augment: Augment,
    canvas: Size,
    output: Size,
    flips: tuple[bool, bool] = (False, False),
) -> np.ndarray:
    """[2,3] matrix from a canvas to an output, both (h, w).

    The canvas' center goes to U(0.5 - translate, 0.5 + translate) of the output after a rotation, a
    zoom and a shear around it; then the output is flipped.
    """
    turn, zoom, shear_x, shear_y, move_x, move_y = rng.uniform(-1.0, 1.0, 6).tolist()
    zoom = 1.0 + zoom * augment.scale
    angle = math.radians(turn * augment.degrees)
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    tan_x = math.tan(math.radians(shear_x * augment.shear))
    tan_y = math.tan(math.radians(shear_y * augment.shear))
    # shear [[1, tan_x], [tan_y, 1]] after rotation and zoom [[cos, sin], [-sin, cos]]
    a, b = cos - tan_x * sin, sin + tan_x * cos
    c, d = tan_y * cos - sin, tan_y * sin + cos
    half_y, half_x = canvas[0] / 2.0, canvas[1] / 2.0
    x = (0.5 + move_x * augment.translate) * output[1] - (a + b * (half_y / half_x)) * half_x
    y = (0.5 + move_y * augment.translate) * output[0] - (c * (half_x / half_y) + d) * half_y
    if flips[1]:
        a, b, x = -a, -b, output[1] - x
    if flips[0]:
        c, d, y = -c, -d, output[0] - y
    return np.array(((a, b, x), (c, d, y)))


def translated(matrix: np.ndarray, x: float, y: float) -> np.ndarray:
    """``matrix`` for an image whose corner lies at (x, y) of the space ``matrix`` maps from."""
    (a, b, e), (c, d, f) = matrix.tolist()  # plain numbers: a fifth of the time of small arrays
    return np.array(((a, b, e + a * x + b * y), (c, d, f + c * x + d * y)))


def warp_boxes(boxes: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """[N,4] xyxy, each under its own [N,2,3] matrix -> [N,4] bounds of the four moved corners.

    The bounds of a moved box are its moved center plus and minus |linear part| times its half
    sides.
    """
    centers = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    halves = (boxes[:, 2:] - boxes[:, :2]) * 0.5
    linear = matrices[:, :, :2]
    centers = (linear * centers[:, None]).sum(2) + matrices[:, :, 2]
    halves = (np.abs(linear) * halves[:, None]).sum(2)
    return np.concatenate((centers - halves, centers + halves), 1)


def clip_boxes(boxes: np.ndarray, limits: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """[N,4] xyxy cut to limits x0, y0, x1, y1 (one row, or one row per box)."""
    limits = np.asarray(limits, boxes.dtype)
    clipped: np.ndarray = np.maximum(boxes, limits[..., [0, 1, 0, 1]])
    return np.minimum(clipped, limits[..., [2, 3, 2, 3]], out=clipped)


def worth_keeping(boxes: np.ndarray, full_areas: np.ndarray) -> np.ndarray:
    """[N] bool: which clipped boxes still show enough of their object.

    boxes: [N,4] clipped output boxes.  full_areas: [N] their areas before clipping.
    """
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    big = (width > MIN_SIDE) & (height > MIN_SIDE)
    shown = width * height > MIN_AREA_SHARE * full_areas
    plump = np.maximum(width, height) < MAX_ASPECT * np.minimum(width, height)
    keep: np.ndarray = big & shown & plump
    return keep


def random_color(rng: np.random.Generator, augment: Augment) -> tuple[float, float, float]:
    """(hue shift as a share of the circle, factor of saturation, factor of value)."""
    hue, saturation, value = rng.uniform(-1.0, 1.0, 3).tolist()
    return (
        hue * augment.hsv_h,
        1.0 + saturation * augment.hsv_s,
        1.0 + value * augment.hsv_v,
    )


def hue_rotation(turn: float) -> np.ndarray:
    """[3,3] that turns RGB about its gray axis by a share of the circle, red towards green.

    Rodrigues' formula for the axis (1, 1, 1): grays stay, and a third of the circle is a change of
    channels.  In 1024ths, with which OpenCV computes whatever it is given.
    """
    sin, cos = math.sin(math.tau * turn), math.cos(math.tau * turn)
    across = np.array(((0.0, -1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 1.0, 0.0))) / math.sqrt(3.0)
    rotation: np.ndarray = cos * np.eye(3) + (1.0 - cos) / 3.0 + sin * across
    return np.rint(rotation * 1024.0) / 1024.0


def color_weights(saturation: float, value: float) -> tuple[float, float]:
    """Factors of saturation and value as weights of a channel and of the largest of the three.

    With v the largest, HSV's saturation is the distance v - c of each channel over v, so that both
    factors together make value * (v - saturation * (v - c)) of c.
    """
    return value * saturation, value * (1.0 - saturation)


def shift_color(image: np.ndarray, color: tuple[float, float, float]) -> None:
    """Turn the hue of [H,W,3] uint8 RGB in place, and multiply saturation and value.

    color: as from ``random_color``.  Saturation and value are HSV's and hue is the angle about
    the gray axis; what leaves 0..255 is cut channel by channel, as a camera does.  All of it is
    linear but for the largest channel, in a third of the time of the way to HSV and back.  It goes
    strip by strip, so that what lies in between stays in the processor's cache.
    """
    hue, saturation, value = color
    rotation, weights = hue_rotation(hue), color_weights(saturation, value)
    width = image.shape[1]
    step = max(1, _STRIP_BYTES // (3 * width))
    scratch = np.empty((2, step, width, 3), np.uint8)
    planes = np.empty((3, step, width), np.uint8)
    for top in range(0, len(image), step):
        strip = image[top : top + step]
        turned, largest = scratch[:, : len(strip)]
        red, green, blue = planes[:, : len(strip)]
        cv2.transform(strip, rotation, dst=turned)
        cv2.split(turned, (red, green, blue))
        cv2.max(cv2.max(red, green, dst=red), blue, dst=red)
        cv2.cvtColor(red, cv2.COLOR_GRAY2RGB, dst=largest)
        cv2.addWeighted(turned, weights[0], largest, weights[1], 0.0, dst=strip)


def blend(image: np.ndarray, other: np.ndarray, share: float) -> None:
    """Make ``image`` that share of itself and the rest of the other (mixup, arXiv:1710.09412)."""
    cv2.addWeighted(image, share, other, 1.0 - share, 0.0, dst=image)
