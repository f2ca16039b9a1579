"""The arithmetic of augmentation: affine matrices, boxes that follow them, and colour.

A matrix is [2,3] float64 and maps continuous pixel coordinates (pixel i covers [i, i + 1]) of an
image to those of the output.  Every geometric augmentation, flips included, is one such matrix,
so that pixels are interpolated once and boxes are computed from the same numbers that move the
pixels. Random numbers come from the caller's generator.  Nothing here draws an image or reads a
file.

Left out: perspective, and colour operations other than hue, saturation and value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

_STRIP_BYTES = 192 * 1024
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
    """(upside down, left to right)."""
    vertical, horizontal = rng.random(2).tolist()
    return vertical < augment.flipud, horizontal < augment.fliplr


def random_affine(
    rng: np.random.Generator,
    augment: Augment,
    canvas: int,
    image_size: int,
    flips: tuple[bool, bool] = (False, False),
) -> np.ndarray:
    """[2,3] matrix from a square canvas of side ``canvas`` to an output of side ``image_size``.

    The canvas' centre goes to U(0.5 - translate, 0.5 + translate) of the output after a rotation, a
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
    half = canvas / 2.0
    x = (0.5 + move_x * augment.translate) * image_size - (a + b) * half
    y = (0.5 + move_y * augment.translate) * image_size - (c + d) * half
    if flips[1]:
        a, b, x = -a, -b, image_size - x
    if flips[0]:
        c, d, y = -c, -d, image_size - y
    return np.array(((a, b, x), (c, d, y)))


def translated(matrix: np.ndarray, x: float, y: float) -> np.ndarray:
    """``matrix`` for an image whose corner lies at (x, y) of the space ``matrix`` maps from."""
    (a, b, e), (c, d, f) = matrix.tolist()  # plain numbers: a fifth of the time of small arrays
    return np.array(((a, b, e + a * x + b * y), (c, d, f + c * x + d * y)))


def warp_boxes(boxes: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """[N,4] xyxy, each under its own [N,2,3] matrix -> [N,4] bounds of the four moved corners.

    The bounds of a moved box are its moved centre plus and minus |linear part| times its half
    sides.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) * 0.5
    halves = (boxes[:, 2:] - boxes[:, :2]) * 0.5
    linear = matrices[:, :, :2]
    centres = (linear * centres[:, None]).sum(2) + matrices[:, :, 2]
    halves = (np.abs(linear) * halves[:, None]).sum(2)
    return np.concatenate((centres - halves, centres + halves), 1)


def clip_boxes(boxes: np.ndarray, limits: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """[N,4] xyxy cut to limits x0, y0, x1, y1 (one row, or one row a box)."""
    limits = np.asarray(limits, boxes.dtype)
    clipped: np.ndarray = np.maximum(boxes, limits[..., [0, 1, 0, 1]])
    return np.minimum(clipped, limits[..., [2, 3, 2, 3]], out=clipped)


def worth_keeping(boxes: np.ndarray, full_areas: np.ndarray) -> np.ndarray:
    """[N] bool: which clipped boxes still show enough of their object.

    boxes: [N,4] clipped output boxes.  full_areas: [N] their areas, had the output not cut them.
    """
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    big = (width > MIN_SIDE) & (height > MIN_SIDE)
    shown = width * height > MIN_AREA_SHARE * full_areas
    plump = np.maximum(width, height) < MAX_ASPECT * np.minimum(width, height)
    keep: np.ndarray = big & shown & plump
    return keep


def random_colour(rng: np.random.Generator, augment: Augment) -> tuple[float, float, float]:
    """Hue shift as a share of the circle, and the factors of saturation and value."""
    hue, saturation, value = rng.uniform(-1.0, 1.0, 3).tolist()
    return (
        hue * augment.hsv_h,
        1.0 + saturation * augment.hsv_s,
        1.0 + value * augment.hsv_v,
    )


def shift_colour(image: np.ndarray, colour: tuple[float, float, float]) -> None:
    """Turn the hue of [H,W,3] uint8 RGB in place, and multiply saturation and value (cut at 255).

    colour: as from ``random_colour``. Works on uint8 HSV whose hue has 256 steps: turning the hue
    is an addition that wraps, the factors are a saturating diagonal transform. Both are vectorised
    and give what look-up tables give in a fifth of their time. It goes strip by strip, so that
    what lies in between stays in the processor's cache and costs no fresh memory.
    """
    hue, saturation, value = colour
    turn = round(hue * 256) % 256
    # OpenCV writes a hue in 256ths of the circle but reads it in 255ths.
    factors = np.diag((255 / 256, saturation, value))
    width = image.shape[1]
    step = max(1, _STRIP_BYTES // (3 * width))
    addend = np.tile(np.array((turn, 0, 0), np.uint8), width)
    scratch = np.empty((step, width, 3), np.uint8)
    for top in range(0, len(image), step):
        strip = image[top : top + step]
        hsv = scratch[: len(strip)]
        cv2.cvtColor(strip, cv2.COLOR_RGB2HSV_FULL, dst=hsv)
        rows = hsv.reshape(len(hsv), -1)
        np.add(rows, addend, out=rows)
        cv2.transform(hsv, factors, dst=hsv)
        cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL, dst=strip)


def blend(image: np.ndarray, other: np.ndarray, share: float) -> None:
    """Make ``image`` that share of itself and the rest of the other (mixup, arXiv:1710.09412)."""
    cv2.addWeighted(image, share, other, 1.0 - share, 0.0, dst=image)
