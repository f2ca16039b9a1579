"""Small data sets on disk for tests: folders, YAMLs, images that differ, label files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from yolodet.datasets.sets.locate import Dataset

DATA = Path(__file__).parents[2].parent / "shared" / "data"
"""Real data sets, where they are."""
needs_real_data = pytest.mark.skipif(
    not all((DATA / name).is_dir() for name in ("bccd", "coco8")),
    reason=f"needs the data sets bccd and coco8 in {DATA}",
)
OK = "train: images/train\nval: images/val\nnames: [a, b]\n"
ROW = "1 0.5 0.5 0.5 0.5\n"


def make_folders(root: Path, *folders: str) -> Path:
    for folder in folders or ("images/train", "images/val"):
        (root / folder).mkdir(parents=True)
    return root


def describe(folder: Path, text: str = OK, name: str = "set.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def add_image(path: Path, size: tuple[int, int] = (20, 40), row: str | None = ROW) -> Path:
    """An image unlike those of other names and, unless ``row`` is None, its label file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = list(f"{path.parent.name}/{path.name}".encode())
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert cv2.imwrite(str(path), noise)
    if row is not None:
        label = Path(str(path.with_suffix(".txt")).replace("/images/", "/labels/"))
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(row)
    return path


def data_set(root: Path, *sources: str, split: str = "train") -> Dataset:
    """A data set of one split and two classes."""
    paths = [root / source for source in sources or ("images/train",)]
    return Dataset("tiny", ("a", "b"), {split: paths}, root, root / "tiny.yaml")
