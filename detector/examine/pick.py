"""``det pick``: which unlabeled images are worth labeling first.

*Uncertainty* of an image: the sum of the binary entropy of the scores of its boxes,

    u = sum over boxes with s >= 0.05 of  -s log2(s) - (1 - s) log2(1 - s)

so an image with many boxes that are neither sure nor absent comes first (entropy: Settles, "Active
Learning Literature Survey", 2009; summed over the boxes of an image: Brust et al., arXiv
1809.09875).

*Diversity*: k-center greedy (Sener and Savarese, "Active Learning for CNNs: A Core-Set Approach",
arXiv 1708.00489).  The feature of an image is the mean of each level of the neck over the picture,
scaled to length 1.  The next image is always the one that is farthest from the nearest of all that
are chosen or labeled already.

*Both*: the POOL * n most uncertain images are the ones to choose from by diversity (first
uncertainty, then diversity, as in PPAL, arXiv 2211.11612, whose calibrations are not used).
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.edit.folder import new_folder
from ...datasets.images.image import ImageError, read_image
from ...files.counted import counted
from ..evaluate.draw import draw_detections, fit, tile_images
from ..evaluate.figure import save_picture
from ..options.active import PickConfig
from ..options.errors import UsageError
from ..run.log import Log
from .found import Found
from .look import features_of, load, look, open_pool, predict_config

LOW = 0.05
"""Boxes below this score say nothing."""
POOL = 4
COLUMNS, CELL, MOST = 8, 240, 120
"""Of the picture grid: images in a row, pixels of the longer side, images at most."""


@dataclass(frozen=True)
class Candidate:
    """An image to choose.  feature: [F], empty where it is not needed."""

    path: Path
    found: Found
    feature: np.ndarray

    @property
    def uncertainty(self) -> float:
        """Bits."""
        return uncertainty(self.found.scores)


def uncertainty(scores: np.ndarray) -> float:
    """The sum of the binary entropy of scores, in bits."""
    s = np.clip(scores[scores >= LOW].astype(np.float64), 1e-9, 1 - 1e-9)
    return float((-s * np.log2(s) - (1 - s) * np.log2(1 - s)).sum())


def farthest_first(
    features: np.ndarray, count: int, known: np.ndarray, first: int
) -> list[tuple[int, float]]:
    """K-center greedy: rows of ``features`` [N,F], each with its distance to the nearest row that
    was chosen before or is known.

    known: [K,F], centers that are there already.  first: the row to begin with where none is.
    """
    nearest = np.full(len(features), np.inf)
    for start in range(0, len(known), 256):
        nearest = np.minimum(nearest, distances(features, known[start : start + 256]).min(axis=1))
    chosen: list[tuple[int, float]] = []
    for _ in range(min(count, len(features))):
        row = int(nearest.argmax()) if np.isfinite(nearest).all() else first
        chosen.append((row, float(nearest[row])))
        nearest = np.minimum(nearest, distances(features, features[row : row + 1])[:, 0])
        nearest[row] = -1.0
    return chosen


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances of rows: [N,M]."""
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0))


def choose(
    candidates: Sequence[Candidate], known: np.ndarray, count: int, by: str
) -> list[tuple[Candidate, float]]:
    """The images to label, the first first, each with its distance to the nearest before it (nan
    where features do not count).  known: features [K,F] of labeled images."""
    order = sorted(candidates, key=lambda one: (-one.uncertainty, str(one.path)))
    if by == "uncertainty":
        return [(one, float("nan")) for one in order[:count]]
    pool = order[: POOL * count] if by == "both" else order
    features = np.stack([one.feature for one in pool])
    return [(pool[row], distance) for row, distance in farthest_first(features, count, known, 0)]


def pick(config: PickConfig, log: Log) -> dict[str, Any]:
    """Look at all images, choose, and write the list and the picture grid.  Raises UsageError."""
    pool = open_pool(config.data_source, log, download=config.online)
    open_ones = [record.path for record in pool.records if record.path in pool.unlabeled]
    done = [record.path for record in pool.records if record.path not in pool.unlabeled]
    if not open_ones:
        raise UsageError(f"data={config.data}: every image has labels, so there is none to choose")
    how = predict_config(config, conf=LOW, batch=1)
    used = load(how, log)
    if config.by == "uncertainty":
        candidates = [
            Candidate(path, Found.of(result), np.zeros(0))
            for path, result in look(how, used, open_ones, log)
        ]
        known = np.zeros((0, 0))
    else:
        with features_of(used.model) as rows:
            candidates, features = [], []
            for path, result in look(how, used, [*open_ones, *done], log):
                feature = np.mean([row.numpy() for row in rows], axis=0)
                rows.clear()
                features.append(feature / max(float(np.linalg.norm(feature)), 1e-12))
                candidates.append(Candidate(path, Found.of(result), features[-1]))
        labeled = set(done)
        kept = [one.feature for one in candidates if one.path in labeled]
        known = np.stack(kept) if kept else np.zeros((0, len(features[0])))
        candidates = [one for one in candidates if one.path not in labeled]
    chosen = choose(candidates, known, config.n, config.by)
    write(chosen, Path(config.out), used.meta.class_names)
    if len(chosen) < config.n:
        log.warn(f"n={config.n}: there are only {counted(len(chosen), 'image')} to choose")
    return {
        "out": config.out, "list": str(Path(config.out) / "picked.txt"), "by": config.by,
        "images": [str(one.path) for one, _ in chosen], "of": len(candidates),
        "labeled": len(done), "sheet": str(Path(config.out) / "picked.jpg"),
    }  # fmt: skip


def write(chosen: Sequence[tuple[Candidate, float]], out: Path, class_names: Sequence[str]) -> None:
    """picked.txt (a path per line, as a split of a data set can name it), picked.csv and the
    picture grid."""
    with new_folder(out) as folder:
        paths = [os.path.abspath(one.path) for one, _ in chosen]
        text = "".join(f"{path}\n" for path in paths)
        (folder / "picked.txt").write_bytes(os.fsencode(text))
        with (folder / "picked.csv").open("w", newline="", errors="surrogateescape") as file:
            rows = csv.writer(file)
            rows.writerow(("rank", "image", "boxes", "uncertainty", "distance"))
            for rank, (one, distance) in enumerate(chosen, 1):
                boxes = int((one.found.scores >= LOW).sum())
                rows.writerow((rank, one.path, boxes, f"{one.uncertainty:.4f}", f"{distance:.4f}"))
        sheet = [_drawn(one, class_names) for one, _ in chosen[:MOST]]
        save_picture(tile_images(sheet, COLUMNS, CELL), folder / "picked.jpg")


def _drawn(one: Candidate, class_names: Sequence[str]) -> np.ndarray:
    """The image with what is seen in it, as small as a cell of the grid."""
    try:
        image = read_image(one.path)
    except ImageError:
        return np.zeros((CELL, CELL, 3), np.uint8)
    small = fit(image, CELL)
    share = np.array([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]] * 2)
    seen = one.found.above(0.25)
    return draw_detections(small, seen.boxes * share, seen.labels, None, class_names, 1)
