"""Drawn videos with known tracks: things that move, cross and hide each other.

A video is a background, things of the easy drawn data set with a size, a speed and a depth of their
own, which turn back at the borders, and pillars in front of all.  Video ``index`` depends only on
(seed, index, size, objects); a longer one begins like a shorter one.  The layout is that of
MOTChallenge, which trackers are measured on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ...files.atomic import naming, write_bytes
from ...files.staging import staging
from .canvas import hsv
from .objects import KINDS
from .scenery import paint_background
from .shapes import EASY_CLASSES, MIN_SIZE, ShapesError, check_empty
from .stage import SOLID, pose, random_look, relight

FPS = 25
SEEN = 0.25
"""Share of a thing that must be visible for its row to count."""
_INDEX = 1 << 20  # apart from the scenes of the same seed


@dataclass
class Mover:
    """A thing: its picture [h,w,4] uint8 premultiplied RGBA, its class, and where it goes.

    start: [2] center (x, y) in the first frame.  speed: [2] pixels per frame.  swing: height of
    the wave on its way in pixels, and its frames.
    """

    patch: np.ndarray
    label: int
    start: np.ndarray
    speed: np.ndarray
    swing: tuple[float, float]

    def center(self, frame: int, size: tuple[int, int]) -> np.ndarray:
        """[2] center (x, y) in a frame of (width, height) pixels: mirrored at the borders."""
        limit = np.array(size, np.float64)
        way = (self.start + self.speed * frame) % (2 * limit)
        at = np.where(way > limit, 2 * limit - way, way)
        height, period = self.swing
        at[1] += height * np.sin(2 * np.pi * frame / period)
        return np.asarray(at)


@dataclass(frozen=True)
class VideoFrame:
    """image: [H,W,3] uint8 RGB.  boxes: [N,4] xyxy pixels of the whole things inside the image.
    seen: [N] visible share.  labels: [N] indices into EASY_CLASSES.  A thing keeps its place."""

    image: np.ndarray
    boxes: np.ndarray
    seen: np.ndarray
    labels: np.ndarray


def draw_video(
    seed: int, index: int, frames: int, size: int = 320, objects: int = 8
) -> Iterator[VideoFrame]:
    """The frames of video ``index``, ``size`` pixels wide and three quarters as high.

    Raises ShapesError for a negative seed or index and for a size below 64.
    """
    if seed < 0 or index < 0 or size < MIN_SIZE:
        raise ShapesError(
            f"videos: seed={seed}, index={index}, size={size}; expected seed and index of 0 or "
            f"more and a size of {MIN_SIZE} or more"
        )
    rng = np.random.default_rng((seed, _INDEX + index))
    height = round(size * 3 / 4)
    scene = paint_background(rng, height, size)
    movers = [_mover(rng, size, height) for _ in range(objects)]
    pillars = [_pillar(rng, size) for _ in range(2)]
    for frame in range(frames):
        yield _frame(scene, movers, pillars, frame)


def _mover(rng: np.random.Generator, width: int, height: int) -> Mover:
    label = int(rng.integers(len(EASY_CLASSES)))
    kind = KINDS[EASY_CLASSES[label]]
    side = round(width * rng.uniform(0.1, 0.2))
    patch = relight(rng, pose(rng, kind.paint, side, kind.tilt, kind.squash), random_look(rng))
    start = rng.uniform((0, 0), (width, height))
    angle, pace = rng.uniform(0, 2 * np.pi), width * rng.uniform(0.004, 0.014)
    speed = np.array([np.cos(angle), 0.6 * np.sin(angle)]) * pace
    return Mover(patch, label, start, speed, (side * rng.uniform(0, 0.4), rng.uniform(30, 90)))


def _pillar(rng: np.random.Generator, width: int) -> tuple[int, int, tuple[int, int, int]]:
    """Left and right edge, and color, of something that hides what goes behind it."""
    left = int(rng.uniform(0.1, 0.8) * width)
    return left, left + int(rng.uniform(0.05, 0.1) * width), hsv(rng, rng.random(), 0.2, 0.4)


def _frame(
    scene: np.ndarray,
    movers: list[Mover],
    pillars: list[tuple[int, int, tuple[int, int, int]]],
    number: int,
) -> VideoFrame:
    image = scene.copy()
    height, width = image.shape[:2]
    owner: np.ndarray = np.zeros((height, width), np.int16)
    boxes = np.zeros((len(movers), 4), np.float64)
    areas = np.zeros(len(movers))
    for place, mover in enumerate(movers):
        solid = mover.patch[:, :, 3] >= SOLID
        areas[place] = np.count_nonzero(solid)
        x, y = mover.center(number, (width, height)).round().astype(int).tolist()
        rows, columns, part = _window(mover.patch, x, y, (height, width))
        _blend(image[rows, columns], part)
        own = part[:, :, 3] >= SOLID
        owner[rows, columns][own] = place + 1
        if own.any():
            left, top, wide, high = cv2.boundingRect(own.view(np.uint8))
            left, top = left + columns.start, top + rows.start
            boxes[place] = left, top, left + wide, top + high
    for left, right, color in pillars:
        image[:, left:right] = color
        owner[:, left:right] = 0
    seen = np.bincount(owner.ravel(), minlength=len(movers) + 1)[1:] / np.maximum(areas, 1)
    return VideoFrame(image, boxes, seen, np.array([m.label for m in movers], np.int64))


def _window(
    patch: np.ndarray, x: int, y: int, shape: tuple[int, int]
) -> tuple[slice, slice, np.ndarray]:
    """Rows and columns of the image that a patch around (x, y) covers, and the part inside."""
    tall, wide = patch.shape[:2]
    top, left = y - tall // 2, x - wide // 2
    rows = slice(min(max(top, 0), shape[0]), max(min(top + tall, shape[0]), 0))
    columns = slice(min(max(left, 0), shape[1]), max(min(left + wide, shape[1]), 0))
    part = patch[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return rows, columns, part


def _blend(image: np.ndarray, patch: np.ndarray) -> None:
    """Draw a premultiplied patch on ``image``, in place."""
    through = 255 - patch[:, :, 3:].astype(np.uint16)
    image[:] = (image * through / 255 + patch[:, :, :3]).clip(0, 255).astype(np.uint8)


def write_videos(
    folder: Path,
    *,
    count: int,
    frames: int,
    seed: int = 0,
    size: int = 320,
    objects: int = 8,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write ``count`` videos as sequences ``video-01`` and so on, and return the folder.

    The parameters name the videos, hence the long list.  A row of gt.txt counts (its mark is 1)
    where a quarter of the thing is visible; classes count from 1 in the order of EASY_CLASSES.
    All appears at the end; Raises ShapesError where ``folder`` exists and is not empty.
    """
    check_empty(folder)
    target = folder.resolve()
    with naming(target), staging(target) as hidden:
        partial = hidden / "set"
        for index in range(count):
            sequence = partial / f"video-{index + 1:02d}"
            (sequence / "img1").mkdir(parents=True)
            rows = []
            for number, frame in enumerate(draw_video(seed, index, frames, size, objects), 1):
                _, data = cv2.imencode(".jpg", frame.image[:, :, ::-1])
                (sequence / "img1" / f"{number:06d}.jpg").write_bytes(data.tobytes())
                rows += _rows(frame, number)
                if on_progress is not None:
                    on_progress(index * frames + number, count * frames)
            write_bytes(sequence / "gt" / "gt.txt", "".join(rows).encode())
            about = _about(sequence.name, frames, frame.image.shape)
            write_bytes(sequence / "seqinfo.ini", about.encode())
        write_bytes(partial / "classes.txt", "".join(f"{n}\n" for n in EASY_CLASSES).encode())
        if target.exists():
            target.rmdir()
        partial.rename(target)
    return folder


def _rows(frame: VideoFrame, number: int) -> list[str]:
    """Rows ``frame,id,x,y,w,h,mark,class,visibility`` of what is inside the image."""
    rows = []
    for place, (x1, y1, x2, y2) in enumerate(frame.boxes.astype(int).tolist()):
        if x2 > x1 and y2 > y1:
            seen = float(frame.seen[place])
            mark, label = int(seen >= SEEN), int(frame.labels[place]) + 1
            box = f"{x1},{y1},{x2 - x1},{y2 - y1}"
            rows.append(f"{number},{place + 1},{box},{mark},{label},{seen:.3f}\n")
    return rows


def _about(name: str, frames: int, shape: tuple[int, ...]) -> str:
    return (
        f"[Sequence]\nname={name}\nimDir=img1\nframeRate={FPS}\nseqLength={frames}\n"
        f"imWidth={shape[1]}\nimHeight={shape[0]}\nimExt=.jpg\n"
    )
