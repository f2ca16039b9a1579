"""The stage of the drawn data set: poses, lights and places patches, and computes the boxes.

The stage stores which object each pixel shows.  A box is the bounding rectangle of the pixels that
finally show its object, that is, of its visible part.  A patch that would hide too much of an
object, or be hidden too much itself, is not placed.  So exactly those objects that can be
recognized are annotated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .canvas import Painter

MIN_VISIBLE = 0.4  # share of an object's pixels that must stay visible
MIN_INSIDE = 0.6  # share of them that must be inside the image
SOLID = 96  # alpha (of 255) from which a pixel belongs to a thing


@dataclass(frozen=True)
class Look:
    """Light and air, the same for all things of a scene.

    light: [2] direction of the light in the image, a unit vector.  contrast: 0 flat to 1 hard.
    haze: 0..1 share of ``haze_color`` [3] uint8 in every thing.  shadow: 0..1 darkness of shadows.
    """

    light: np.ndarray
    contrast: float
    haze: float
    haze_color: np.ndarray
    shadow: float


def random_look(rng: np.random.Generator) -> Look:
    """Random light direction, mostly clear air, shadows in every second scene."""
    angle = rng.uniform(0, 2 * math.pi)
    shadow = rng.uniform(0.1, 0.5) if rng.random() < 0.5 else 0.0
    return Look(np.array([math.cos(angle), math.sin(angle)]), rng.uniform(0, 0.35), rng.beta(1, 6),
                rng.integers(90, 220, 3).astype(np.uint8), shadow)


def pose(rng: np.random.Generator, paint: Painter, side: int, tilt: float,
         squash: float) -> np.ndarray:
    """Paint a thing ``side`` pixels long, squashed, tilted and in slight perspective.

    squash: the smallest ratio of width to height.  tilt: largest rotation in degrees.  Returns
    [h,w,4] uint8, premultiplied RGBA.
    """
    patch = paint(rng, min(max(2 * side, 96), 512))
    if patch.shape[0] > 2 * side:  # small things are drawn larger, so that strokes are thin
        patch = cv2.resize(patch, (2 * side, 2 * side), interpolation=cv2.INTER_AREA)
    unit = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    corners = (unit + rng.uniform(-0.06, 0.06, (4, 2))) * (rng.uniform(squash, 1.0), 1.0) * side
    angle = math.radians(rng.uniform(-tilt, tilt))
    cosine, sine = math.cos(angle), math.sin(angle)
    corners = corners @ np.array([[cosine, sine], [-sine, cosine]])
    corners -= corners.min(0) - 1
    width, height = (math.ceil(x) + 1 for x in corners.max(0).tolist())
    source = (unit + 0.5) * patch.shape[0] - 0.5  # OpenCV counts from the middle of the first pixel
    matrix = cv2.getPerspectiveTransform(source.astype(np.float32),
                                         (corners - 0.5).astype(np.float32))
    return cv2.warpPerspective(patch, matrix, (width, height), flags=cv2.INTER_LINEAR)


def relight(rng: np.random.Generator, patch: np.ndarray, look: Look) -> np.ndarray:
    """The patch in the scene's light and haze, with slightly uneven brightness."""
    axis = np.linspace(-0.5, 0.5, 6)
    slope = axis[None, :] * look.light[0] + axis[:, None] * look.light[1]
    tone = 1 - look.contrast * (0.3 + slope) + rng.normal(0, 0.035, (6, 6))
    factor = cv2.resize(np.clip(tone * 128, 0, 255).astype(np.uint8), patch.shape[1::-1],
                        interpolation=cv2.INTER_CUBIC)
    color, alpha = np.ascontiguousarray(patch[:, :, :3]), patch[:, :, 3]
    lit = cv2.multiply(color, cv2.merge([factor] * 3), scale=1 / 128)
    veil = cv2.merge([cv2.convertScaleAbs(alpha, alpha=tint / 255)
                      for tint in look.haze_color.tolist()])
    lit = cv2.addWeighted(lit, 1 - look.haze, veil, look.haze, 0)
    return np.dstack([cv2.min(lit, cv2.merge([alpha] * 3)), alpha])


class Stage:
    """An unfinished picture, with the owner of every pixel.

    image: [H,W,3] uint8 RGB.  owner: [H,W] uint8, 0 for scenery and k for the k-th object.
    labels: class ids in the order of placing.
    """

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self.owner: np.ndarray = np.zeros(image.shape[:2], np.uint8)
        self.labels: list[int] = []
        self._areas: np.ndarray = np.zeros(0)  # [N] pixels of each whole object, visible or not
        self._seen: np.ndarray = np.zeros(0)  # [N] visible pixels of it

    def place(self, rng: np.random.Generator, patch: np.ndarray, look: Look,
              label: int | None) -> bool:
        """Draw the patch at a random permitted place; False if six tries found none.

        The first tries avoid other objects, unless this thing is chosen to overlap.  label: class
        id of an object; None for a decoy, which gets no box.
        """
        area = int(np.count_nonzero(patch[:, :, 3] >= SOLID))
        overlaps = rng.random() < 0.4
        for attempt in range(6):
            window, part = self._spot(rng, patch)
            solid = part[:, :, 3] >= SOLID
            inside = int(np.count_nonzero(solid))
            owners = self.owner[window][solid]
            covered = np.bincount(owners, minlength=len(self.labels) + 1)[1:]
            crowded = attempt < 4 and not overlaps and covered.any()
            hides = (self._seen - covered < MIN_VISIBLE * self._areas).any()
            if crowded or hides or (label is not None and inside < max(MIN_INSIDE * area, 1)):
                continue
            self._seen = self._seen - covered
            if label is not None:
                self.labels.append(label)
                self._areas = np.append(self._areas, area)
                self._seen = np.append(self._seen, inside)
            self.owner[window][solid] = 0 if label is None else len(self.labels)
            _blend(self.image[window], part, look)
            return True
        return False

    def _spot(self, rng: np.random.Generator,
              patch: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray]:
        """A random window of the image and the part of the patch that falls into it."""
        height, width = self.owner.shape
        tall, wide = patch.shape[:2]
        top = int(rng.integers(-tall // 3, max(height - 2 * tall // 3, 1)))
        left = int(rng.integers(-wide // 3, max(width - 2 * wide // 3, 1)))
        rows = slice(max(top, 0), min(top + tall, height))
        columns = slice(max(left, 0), min(left + wide, width))
        part = patch[rows.start - top:rows.stop - top, columns.start - left:columns.stop - left]
        return (rows, columns), part

    def boxes(self) -> np.ndarray:
        """Boxes [N,4] float32 xyxy pixels (edges of pixels) around the visible part of each
        object."""
        boxes = np.zeros((len(self.labels), 4), np.float32)
        for place in range(len(boxes)):
            x, y, width, height = cv2.boundingRect((self.owner == place + 1).view(np.uint8))
            boxes[place] = x, y, x + width, y + height
        return boxes


def _blend(image: np.ndarray, patch: np.ndarray, look: Look) -> None:
    """Draw a premultiplied patch and its soft shadow on ``image``, in place."""
    alpha = np.ascontiguousarray(patch[:, :, 3])
    if look.shadow > 0:
        reach = max(2, max(alpha.shape) // 16)
        shift_x, shift_y = (look.light * reach).tolist()
        move = np.array([[1, 0, shift_x], [0, 1, shift_y]], np.float32)
        dark = cv2.blur(cv2.warpAffine(alpha, move, alpha.shape[::-1]), (reach, reach))
        kept = cv2.bitwise_not(cv2.convertScaleAbs(dark, alpha=look.shadow))
        cv2.multiply(image, cv2.merge([kept] * 3), image, scale=1 / 255)
    through = cv2.bitwise_not(alpha)
    cv2.multiply(image, cv2.merge([through] * 3), image, scale=1 / 255)
    cv2.add(image, np.ascontiguousarray(patch[:, :, :3]), image)
