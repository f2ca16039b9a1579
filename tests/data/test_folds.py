"""``val=2of5``: folds of train are disjoint, cover it, have every class, and split no copies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from yolodet.datasets.scan.count import count_images
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.dataset import DatasetError
from yolodet.datasets.sets.locate import load_dataset
from yolodet.datasets.sets.source import DataSource

CLASSES = 3
IMAGES = 60
COPIES = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise with a box each, one class rare (6 of 60), and the first picture four times more."""
    folder, rng = tmp_path_factory.mktemp("folds"), np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind / "train").mkdir(parents=True)
    first = None
    for number in range(IMAGES + COPIES):
        image = cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (64, 64))
        first = image if first is None else first
        if number >= IMAGES:
            image = cv2.resize(cv2.convertScaleAbs(first, beta=number - IMAGES), (66, 66))
        cv2.imwrite(str(folder / f"images/train/{number}.png"), image)
        label = 2 if number % 10 == 3 and number < IMAGES else number % 2
        (folder / f"labels/train/{number}.txt").write_text(f"{label} 0.5 0.5 0.4 0.4\n")
    (folder / "data.yaml").write_text("train: images/train\nnames: [a, b, rare]\n")
    return folder / "data.yaml"


def fold(data: Path, word: str, seed: int = 0) -> tuple[list[str], list[str], Counter[int]]:
    """Names of the images to train on and to validate on, and the classes of the latter."""
    dataset = load_dataset(DataSource(str(data), val=word, seed=seed))
    train, val = (scan_split(dataset, split).records for split in ("train", "val"))
    counts = Counter(int(label) for record in val for label in record.labels)
    return [r.path.stem for r in train], [r.path.stem for r in val], counts


def test_folds_cover_train_once_evenly_and_keep_copies_together(data: Path) -> None:
    copies = {"0", *(str(IMAGES + i) for i in range(COPIES))}
    seen: list[str] = []
    for number in (1, 2, 3):
        train, val, classes = fold(data, f"{number}of3")
        assert not {*train} & {*val} and len(train) + len(val) == IMAGES + COPIES
        assert abs(len(val) - (IMAGES + COPIES) / 3) <= COPIES + 1
        assert classes[2] == 2  # of six
        assert not copies & {*val} or copies <= {*val}
        seen += val
    assert len(seen) == len({*seen}) == IMAGES + COPIES


def test_a_fold_is_the_same_again_and_another_seed_divides_otherwise(data: Path) -> None:
    assert fold(data, "1of3") == fold(data, "1of3")
    assert fold(data, "1of3")[1] != fold(data, "1of3", seed=1)[1]


def test_a_label_that_changes_moves_no_image_into_both_parts(data: Path) -> None:
    """The division follows the labels as they are now, for both parts."""
    fold(data, "1of2")
    label = data.parent / "labels/train/5.txt"
    before = label.read_text()
    try:
        label.write_text("2 0.5 0.5 0.4 0.4\n2 0.2 0.2 0.1 0.1\n")
        train, val, _ = fold(data, "1of2")
        assert not {*train} & {*val} and len(train) + len(val) == IMAGES + COPIES
    finally:
        label.write_text(before)


def test_fractions_and_counts_are_those_of_the_fold(data: Path) -> None:
    source = DataSource(str(data), val="1of4")
    dataset = load_dataset(source)
    whole = scan_split(dataset, "train")
    half = scan_split(dataset, "train", fraction=0.5)
    assert len(half.records) == round(len(whole.records) / 2)
    assert half.fingerprint != whole.fingerprint != scan_split(dataset, "val").fingerprint
    assert count_images(source, "train") == 48 and count_images(source, "val") == 16


@pytest.mark.parametrize(
    ("word", "message"), [("3of2", "a fold of"), ("0of2", "a fold of"), ("1of99", "too few for 99")]
)
def test_folds_that_cannot_be_are_refused(data: Path, word: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        fold(data, word)
