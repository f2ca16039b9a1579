"""The drawn data set: any number of scenes from a seed, with exact boxes.

A scene is a background, then objects and decoys on top of each other, then the effects of a camera.
Image ``index`` depends only on (seed, index, size), so a larger set begins with a smaller one; the
splits are distant ranges of ``index`` and never share an image.  Pixels are identical for one
version of NumPy and OpenCV.  The scenes do not have the statistics of real photographs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ...files.atomic import naming, write_bytes
from ...files.errors import InputError
from ...files.staging import staging
from .decoys import DECOYS
from .objects import KINDS, Kind
from .scenery import develop, paint_background
from .stage import Look, Stage, pose, random_look, relight

SHAPES_VERSION: int = 1  # raised whenever a seed gives other pixels or boxes than before
SHAPE_CLASSES: tuple[str, ...] = tuple(KINDS)
EASY_CLASSES = ("kite", "banana", "pizza", "clock")
"""The kinds of easy scenes: what can be told apart after minutes of training."""

MIN_SIZE = 64
SPLIT_STRIDE = 10_000_000  # ``index`` of a split's first image: train 0, val this, test twice this
_SPLITS = ("train", "val", "test")
_ASPECTS = ((1, 1), (1, 3 / 4), (3 / 4, 1), (1, 9 / 16), (1, 2 / 3), (2 / 3, 1))  # width, height


class ShapesError(InputError):
    """The data set cannot be drawn or written with these options."""


def draw_scene(seed: int, index: int, size: int = 640, easy: bool = False
               ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image ``index`` of the data set ``seed``; ``size`` is its longer side in pixels.

    easy: one to four large objects of the kinds in EASY_CLASSES, which a detector learns in
    minutes on a processor.

    Returns the image [H,W,3] uint8 RGB, boxes [N,4] float32 xyxy pixels (edges of pixels: a box
    around the whole image is 0, 0, W, H) and labels [N] int64, indices into SHAPE_CLASSES
    (easy: into EASY_CLASSES).  N is between 0 (one image in twenty) and 12.  Raises ShapesError for
    a negative seed or index and for a size below 64.
    """
    _check_numbers(seed, index, size)
    rng = np.random.default_rng((seed, index))
    across, down = _ASPECTS[int(rng.integers(len(_ASPECTS)))]
    stage = Stage(paint_background(rng, round(size * down), round(size * across)))
    (_populate_easily if easy else _populate)(rng, stage, size)
    return develop(rng, stage.image), stage.boxes(), np.array(stage.labels, np.int64)


def _check_numbers(seed: int, index: int, size: int) -> None:
    if seed < 0 or index < 0:
        raise ShapesError(f"shapes: seed={seed}, index={index}; expected 0 or more for both")
    if size < MIN_SIZE:
        raise ShapesError(f"shapes: size={size} is too small to recognize anything; "
                          f"expected {MIN_SIZE} or more")


def _populate(rng: np.random.Generator, stage: Stage, size: int) -> None:
    """Objects and decoys in a random order; one scene in four shows two classes only."""
    look = random_look(rng)
    count = 0 if rng.random() < 0.05 else min(12, 1 + int(rng.gamma(1.8, 2.0)))
    choice = rng.permutation(len(KINDS))[: 2 if rng.random() < 0.25 else len(KINDS)]
    things: list[int | None] = rng.choice(choice, count).tolist()
    things += [None] * int(rng.integers(0, 6))
    _place_all(rng, stage, look, things, list(KINDS.values()), lambda: _side(rng, size))


def _populate_easily(rng: np.random.Generator, stage: Stage, size: int) -> None:
    """Up to four objects of a fifth to half of the image each, and at most one decoy."""
    look = random_look(rng)
    count = 0 if rng.random() < 0.05 else int(rng.integers(1, 5))
    things: list[int | None] = rng.integers(0, len(EASY_CLASSES), count).tolist()
    things += [None] * int(rng.integers(0, 2))
    kinds = [KINDS[name] for name in EASY_CLASSES]
    _place_all(rng, stage, look, things, kinds, lambda: round(size * 0.2 * 2.5 ** rng.random()))


def _place_all(rng: np.random.Generator, stage: Stage, look: Look, things: list[int | None],
               kinds: list[Kind], draw_side: Callable[[], int]) -> None:
    """Place ``things`` in a random order: numbers of ``kinds``, None for a decoy."""
    for label in (things[place] for place in rng.permutation(len(things))):
        side = draw_side()
        if label is None:
            patch = pose(rng, DECOYS[int(rng.integers(len(DECOYS)))], side, 30, 0.6)
        else:
            kind = kinds[label]
            patch = pose(rng, kind.paint, side, kind.tilt, kind.squash)
        stage.place(rng, relight(rng, patch, look), look, label)


def _side(rng: np.random.Generator, size: int) -> int:
    """Length of a thing in pixels: 8 to 55 % of the image's, skewed to small; one in eight less."""
    if rng.random() < 0.12:
        share = rng.uniform(0.035, 0.06)
    else:
        share = 0.08 * (0.55 / 0.08) ** (rng.random() ** 1.7)
    return max(14, round(share * size))


def write_shapes(folder: Path, *, train: int, val: int, test: int = 0, seed: int = 0,
                 size: int = 640, easy: bool = False,
                 on_progress: Callable[[int, int], None] | None = None) -> Path:
    """Write a data set in YOLO layout and return the path of its ``data.yaml``.

    train, val, test: images in each split; a split of 0 images is left out.  seed, size, easy: of
    ``draw_scene``; they name the data set, hence the long list.  on_progress: called with (done,
    total) after every image.  All is written into a hidden folder beside ``folder`` and renamed at
    the end: an interrupted call leaves no partial data set behind.  Raises ShapesError where
    ``folder`` exists and is not an empty folder, and for numbers that cannot be drawn; OSError
    where the disk refuses.
    """
    counts = {name: n for name, n in zip(_SPLITS, (train, val, test), strict=True) if n != 0}
    _check_numbers(seed, 0, size)
    _check_target(folder, counts)
    target = folder.resolve()
    done, total = 0, sum(counts.values())
    with naming(target), staging(target) as hidden:
        partial = hidden / "set"
        for name, count in counts.items():
            first = _SPLITS.index(name) * SPLIT_STRIDE
            for kind in ("images", "labels"):
                (partial / kind / name).mkdir(parents=True)
            for number in range(count):
                scene = draw_scene(seed, first + number, size, easy)
                _write_image(partial, name, number, *scene)
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
        about = _description(counts, seed, size, easy)
        write_bytes(partial / "data.yaml", about.encode())
        if target.exists():
            target.rmdir()  # empty, as checked; Windows does not rename over it
        partial.rename(target)
    return folder / "data.yaml"


def _check_target(folder: Path, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        if not 0 < count <= SPLIT_STRIDE:
            raise ShapesError(f"shapes: {name}={count} images; expected 0 to {SPLIT_STRIDE}")
    if not counts:
        raise ShapesError("shapes: no images to draw; set train, val or test above 0")
    check_empty(folder)


def check_empty(folder: Path) -> None:
    """Raise ShapesError where ``folder`` exists and is not an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ShapesError(f"shapes: {folder} exists and is not an empty folder; "
                          "name another one or remove it first")


def _write_image(root: Path, split: str, number: int, image: np.ndarray, boxes: np.ndarray,
                 labels: np.ndarray) -> None:
    """A JPEG and its rows ``class cx cy w h`` in shares of the image; no rows for a background."""
    height, width = image.shape[:2]
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    (root / "images" / split / f"{number:06d}.jpg").write_bytes(data.tobytes())
    rows = []
    for label, (x1, y1, x2, y2) in zip(labels.tolist(), boxes.tolist(), strict=True):
        row = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        rows.append(" ".join([str(label), *(f"{value:.6f}" for value in row)]) + "\n")
    (root / "labels" / split / f"{number:06d}.txt").write_text("".join(rows), encoding="utf-8")


def _description(counts: dict[str, int], seed: int, size: int, easy: bool) -> str:
    """The text of data.yaml; without ``path`` the entries are relative to the file's own folder."""
    names = EASY_CLASSES if easy else SHAPE_CLASSES
    lines = [f"# drawn by det: shapes version {SHAPES_VERSION}, seed {seed}, size {size}",
             *(f"{name}: images/{name}" for name in counts), "names:",
             *(f"  {label}: {name}" for label, name in enumerate(names))]
    return "\n".join(lines) + "\n"
