"""Measured detections as YOLO label files with a score, one file per image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...files.atomic import write_bytes
from ...files.text import fitting_name
from .metrics import DetectionCollector
from .tables import BoxTable


def write_label_files(
    collector: DetectionCollector, paths: Sequence[Path], folder: Path
) -> list[Path]:
    """Write ``folder/NAME.txt`` for every image and return the files.

    paths: of the images, in the order they were collected.  NAME is the stem of the path; a second
    image of that stem gets NAME-2, and so on.  A row is ``class cx cy w h score``, the box relative
    to the image.  A file is empty if nothing was found.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    files = []
    for path, (size, found) in zip(paths, collector.found(), strict=True):
        name = _free_name(fitting_name(path.stem), taken)
        file = folder / f"{name}.txt"
        rows = "".join(f"{row}\n" for row in _rows(found, size)).encode()
        write_bytes(file, rows)
        files.append(file)
    return files


def _rows(found: BoxTable, size: tuple[int, int]) -> list[str]:
    height, width = size
    centers = found.boxes[:, :2] + found.boxes[:, 2:] / 2
    shares = np.concatenate((centers, found.boxes[:, 2:]), 1) / (width, height, width, height)
    return [
        f"{label} " + " ".join(f"{number:.6f}" for number in (*share, score))
        for label, share, score in zip(
            found.labels.tolist(), shares.tolist(), found.scores.tolist(), strict=True
        )
    ]


def _free_name(stem: str, taken: set[str]) -> str:
    """``stem``, or with the first free number; upper and lower case count as the same."""
    name, number = stem, 2
    while name.lower() in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name.lower())
    return name
