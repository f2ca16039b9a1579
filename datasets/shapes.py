"""The embedded data set: scenes drawn from a seed, with exact boxes, in any number.

A scene is a background, then objects and decoys one over the other, then what a lens and a sensor do
(blur, light, noise).  Image ``index`` depends on (seed, index) alone, so a larger set begins with the
smaller one and the splits never meet.  While things are painted a second picture keeps the owner of
every pixel; a box is the bounding rectangle of the pixels an object still owns at the end, that is of
its visible part inside the image.  A thing that would hide too much of another is not placed, so all
that is recognisable is annotated.  Left out: masks, crowds, and any likeness to real statistics.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from .draw_canvas import Painter
from .draw_objects import KINDS
from .draw_scenery import DECOYS, paint_background

SHAPES_VERSION: int = 1  # raised whenever a seed gives other pixels or boxes than before
SHAPE_CLASSES: tuple[str, ...] = tuple(KINDS)

MIN_VISIBLE = 0.4  # share of its own pixels that an object keeps inside the image and uncovered
SOLID = 96  # alpha from which a pixel belongs to the object (of 255)
SPLIT_STRIDE = 10_000_000  # the splits are ranges of ``index``: train from 0, val from here, test from twice this
JPEG_QUALITY = 90
_ASPECTS = ((1.0, 1.0), (1.0, 0.75), (0.75, 1.0), (1.0, 0.5625), (1.0, 2 / 3), (2 / 3, 1.0))


class ShapesError(ValueError):
    """The data set can not be drawn or written as asked."""

    exit_code = 2


# ---------------------------------------------------------------- one scene

@dataclass
class _Scene:
    """A picture in the making.  owner: [H,W] uint8, 0 or the 1-based number of the object that is seen there."""

    image: np.ndarray
    owner: np.ndarray
    labels: list[int] = field(default_factory=list)
    areas: list[int] = field(default_factory=list)  # pixels of the whole object, also outside the image
    seen: list[int] = field(default_factory=list)  # pixels still visible


@dataclass(frozen=True)
class _Look:
    """What all things of a scene share: where the light comes from, how hazy the air is, how long shadows are."""

    light: np.ndarray  # [2] unit vector in the image, pointing away from the lamp
    contrast: float
    haze: float
    haze_colour: np.ndarray  # [3] uint8
    shadow: float


def draw_scene(seed: int, index: int, size: int = 640) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image ``index`` of the data set ``seed``; ``size`` is its longer side in pixels.

    Returns the image [H,W,3] uint8 RGB, boxes [N,4] float32 xyxy pixels (edges of pixels, so a box over the whole
    image is 0, 0, W, H) and labels [N] int64, places in SHAPE_CLASSES.  N is 0 for about one image in twenty.
    Raises ShapesError for a negative seed or index, or a size below 64.
    """
    scene = _draw(seed, index, size)
    return scene.image, _visible_boxes(scene), np.array(scene.labels, np.int64)


def _draw(seed: int, index: int, size: int) -> _Scene:
    if seed < 0 or index < 0:
        raise ShapesError(f"shapes: seed and index must be 0 or more, got seed={seed} index={index}")
    if size < 64:
        raise ShapesError(f"shapes: size={size} is too small to recognise anything; use 64 or more")
    rng = np.random.default_rng((seed, index))
    across, down = _ASPECTS[int(rng.integers(len(_ASPECTS)))]
    image = paint_background(rng, round(size * down), round(size * across))
    scene = _Scene(image, np.zeros(image.shape[:2], np.uint8))
    angle = rng.uniform(0, 2 * math.pi)
    look = _Look(np.array([math.cos(angle), math.sin(angle)]), rng.uniform(0, 0.35),
                 rng.beta(1, 6), rng.integers(90, 220, 3).astype(np.uint8),
                 rng.choice([0.0, 0.5]) * rng.random())
    _populate(rng, scene, look, size)
    scene.image = _develop(rng, scene.image)
    return scene


def _populate(rng: np.random.Generator, scene: _Scene, look: _Look, size: int) -> None:
    """Objects and decoys in a random order; some scenes show one or two classes only, as a shelf or a street does."""
    count = 0 if rng.random() < 0.05 else min(12, 1 + int(rng.gamma(1.8, 2.0)))
    classes = rng.permutation(len(KINDS))[: 2 if rng.random() < 0.25 else len(KINDS)]
    things = [int(classes[int(rng.integers(len(classes)))]) for _ in range(count)]
    things += [-1] * int(rng.integers(0, 6))
    kinds = list(KINDS.values())
    for label in (things[place] for place in rng.permutation(len(things))):
        side = _side(rng, size)
        if label >= 0:
            kind = kinds[label]
            patch = _posed(rng, kind.paint, side, kind.tilt, kind.squash)
        else:
            patch = _posed(rng, DECOYS[int(rng.integers(len(DECOYS)))], side, 30, 0.6)
        _place(rng, scene, look, _lit(rng, patch, look), label)


def _side(rng: np.random.Generator, size: int) -> int:
    """Longer side of a thing in pixels: mostly 8 to 55 % of the image's, skewed to small; one in eight is tiny."""
    if rng.random() < 0.12:
        share = rng.uniform(0.035, 0.06)
    else:
        share = 0.08 * (0.55 / 0.08) ** (rng.random() ** 1.7)
    return max(14, round(share * size))


def _posed(rng: np.random.Generator, paint: Painter, side: int, tilt: float,
           squash: float) -> np.ndarray:
    """Paint at twice the size, then turn, squash, mirror and tip the patch; [h,w,4] premultiplied RGBA."""
    patch = paint(rng, min(max(2 * side, 96), 512))
    if patch.shape[0] > 2 * side:
        patch = cv2.resize(patch, (2 * side, 2 * side), interpolation=cv2.INTER_AREA)
    angle = math.radians(rng.uniform(-tilt, tilt))
    stretch = np.array([rng.uniform(squash, 1.0), 1.0]) * side
    lean = rng.uniform(-0.06, 0.06, (4, 2))  # the four corners move apart a little: a perspective
    corners = (np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)]) + lean) * stretch
    cosine, sine = math.cos(angle), math.sin(angle)
    corners = corners @ np.array([[cosine, sine], [-sine, cosine]])
    corners -= corners.min(0) - 1
    width, height = (math.ceil(x) + 1 for x in corners.max(0))
    edge = patch.shape[0]
    source = np.array([(0, 0), (edge, 0), (edge, edge), (0, edge)], np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(source, (corners - 0.5).astype(np.float32))
    return cv2.warpPerspective(patch, matrix, (width, height), flags=cv2.INTER_LINEAR)


def _lit(rng: np.random.Generator, patch: np.ndarray, look: _Look) -> np.ndarray:
    """The patch under the scene's light, with a little uneven tone of its own and the haze before it."""
    height, width = patch.shape[:2]
    axis = np.linspace(-0.5, 0.5, 6)
    slope = axis[None, :] * look.light[0] + axis[:, None] * look.light[1]
    tone = 1 - 0.5 * look.contrast - look.contrast * slope + rng.normal(0, 0.035, (6, 6))
    factor = cv2.resize(np.clip(tone * 128, 0, 255).astype(np.uint8), (width, height),
                        interpolation=cv2.INTER_CUBIC)
    colour, alpha = patch[:, :, :3], patch[:, :, 3]
    lit = cv2.multiply(colour, cv2.merge([factor] * 3), scale=1 / 128)
    veil = cv2.merge([cv2.convertScaleAbs(alpha, alpha=float(tint) / 255) for tint in look.haze_colour])
    lit = cv2.addWeighted(lit, 1 - look.haze, veil, look.haze, 0)
    return np.dstack([cv2.min(lit, cv2.merge([alpha] * 3)), alpha])


def _place(rng: np.random.Generator, scene: _Scene, look: _Look, patch: np.ndarray,
           label: int) -> None:
    """Find a spot where nothing becomes unrecognisable and paint there; after four tries the thing is left out."""
    height, width = scene.owner.shape
    tall, wide = patch.shape[:2]
    area = int(np.count_nonzero(patch[:, :, 3] >= SOLID))
    for _ in range(4):
        left = int(rng.integers(-wide // 3, max(width - 2 * wide // 3, 1)))
        top = int(rng.integers(-tall // 3, max(height - 2 * tall // 3, 1)))
        window = (slice(max(top, 0), min(top + tall, height)), slice(max(left, 0), min(left + wide, width)))
        part = patch[window[0].start - top:window[0].stop - top, window[1].start - left:window[1].stop - left]
        solid = part[:, :, 3] >= SOLID
        inside = int(np.count_nonzero(solid))
        if label >= 0 and inside < max(0.6 * area, 1):
            continue
        covered = np.bincount(scene.owner[window][solid], minlength=len(scene.labels) + 1)[1:]
        left_over = [seen - lost for seen, lost in zip(scene.seen, covered.tolist(), strict=True)]
        if any(now < MIN_VISIBLE * whole for now, whole in zip(left_over, scene.areas, strict=True)):
            continue
        scene.seen = left_over
        _blend(scene.image[window], part, look)
        if label >= 0:
            scene.labels.append(label)
            scene.areas.append(area)
            scene.seen.append(inside)
        scene.owner[window][solid] = len(scene.labels) if label >= 0 else 0
        return


def _blend(image: np.ndarray, patch: np.ndarray, look: _Look) -> None:
    """Lay a premultiplied patch over the image in place, above a soft shadow of its own."""
    alpha = patch[:, :, 3]
    if look.shadow > 0.05:
        reach = max(2, max(alpha.shape) // 16)
        move = np.array([[1, 0, look.light[0] * reach], [0, 1, look.light[1] * reach]], np.float32)
        dark = cv2.blur(cv2.warpAffine(alpha, move, alpha.shape[::-1]), (reach, reach))
        kept = cv2.bitwise_not(cv2.convertScaleAbs(dark, alpha=look.shadow))
        cv2.multiply(image, cv2.merge([kept] * 3), image, scale=1 / 255)
    through = cv2.bitwise_not(alpha)
    cv2.multiply(image, cv2.merge([through] * 3), image, scale=1 / 255)
    cv2.add(image, np.ascontiguousarray(patch[:, :, :3]), image)


def _develop(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """What a camera adds: a little blur, its own exposure and colour, and noise."""
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.6))
    levels = np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.75, 1.35) * rng.uniform(0.75, 1.12)
    levels = (levels + rng.uniform(-0.02, 0.06)) * rng.uniform(0.93, 1.07, 3)
    table = np.clip(levels * 255, 0, 255).astype(np.uint8)[None]
    image = cv2.LUT(image, table)
    height, width = image.shape[:2]
    tile = rng.normal(0, rng.choice([1.0, 2.5, 6.0, 10.0], p=[0.4, 0.3, 0.2, 0.1]), (160, 160, 3))
    noise = np.tile(np.round(tile).astype(np.int16), (height // 160 + 1, width // 160 + 1, 1))
    return cv2.add(image, noise[:height, :width], dtype=cv2.CV_8U)


def _visible_boxes(scene: _Scene) -> np.ndarray:
    """Boxes [N,4] float32 xyxy round the pixels that each object owns."""
    boxes = np.zeros((len(scene.labels), 4), np.float32)
    for place in range(len(boxes)):
        x, y, width, height = cv2.boundingRect((scene.owner == place + 1).view(np.uint8))
        boxes[place] = x, y, x + width, y + height
    return boxes


# ---------------------------------------------------------------- the data set on disk

def write_shapes(folder: Path, *, train: int, val: int, test: int = 0, seed: int = 0, size: int = 640,
                 on_progress: Callable[[int, int], None] | None = None) -> Path:
    """Write a data set in YOLO layout and return the path of its ``data.yaml``.

    train, val, test: images in each split; a split of 0 is left out.  on_progress: called with (done, total) after
    every image.  Everything is written into a hidden folder beside ``folder`` and renamed at the end: an interrupted
    call leaves nothing behind.  Raises ShapesError where ``folder`` exists and is not an empty folder, or for counts
    that can not be drawn.
    """
    splits = {name: n for name, n in (("train", train), ("val", val), ("test", test)) if n}
    _check(folder, splits)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    total, done = sum(splits.values()), 0
    try:
        partial.mkdir()
        for place, name in enumerate(("train", "val", "test")):
            for number in range(splits.get(name, 0)):
                _write_image(partial, name, number, draw_scene(seed, place * SPLIT_STRIDE + number, size))
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
        (partial / "data.yaml").write_text(_description(splits, seed, size), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / "data.yaml"


def _check(folder: Path, splits: dict[str, int]) -> None:
    for name, count in splits.items():
        if not 0 < count <= SPLIT_STRIDE:
            raise ShapesError(f"shapes: {name}={count} images; expected 0 to {SPLIT_STRIDE}")
    if not splits:
        raise ShapesError("shapes: no image asked for; give train, val or test a number above 0")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ShapesError(f"shapes: {folder} exists and is not an empty folder; "
                          "name another one or remove it first")


def _write_image(root: Path, split: str, number: int,
                 scene: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """One JPEG and its label file (class, centre and size as shares of the image; empty for a background)."""
    image, boxes, labels = scene
    if number == 0:
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
    height, width = image.shape[:2]
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    (root / "images" / split / f"{number:06d}.jpg").write_bytes(data.tobytes())
    rows = []
    for label, (x1, y1, x2, y2) in zip(labels.tolist(), boxes.tolist(), strict=True):
        row = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        rows.append(f"{label} " + " ".join(f"{value:.6f}" for value in row) + "\n")
    (root / "labels" / split / f"{number:06d}.txt").write_text("".join(rows), encoding="utf-8")


def _description(splits: dict[str, int], seed: int, size: int) -> str:
    lines = [f"# drawn by det: shapes version {SHAPES_VERSION}, seed {seed}, size {size}",
             *(f"{name}: images/{name}" for name in splits), "names:",
             *(f"  {label}: {name}" for label, name in enumerate(SHAPE_CLASSES))]
    return "\n".join(lines) + "\n"
