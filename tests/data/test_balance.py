"""Balanced sampling: the counts that the formula promises, the same for everybody who asks."""

import math
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from rows import each
from scenes import LIVELY, make_records
from yolodet.datasets.batches.balance import balance_of, draw_epoch, occurrences
from yolodet.datasets.batches.dataset import DetectionDataset, Key
from yolodet.datasets.batches.loader import Loader
from yolodet.datasets.formats.record import Record

CLASSES = 5
COUNT = 11


def image_with(*labels: int, crowd: int | None = None) -> Record:
    boxes = np.tile(np.array([[1, 1, 9, 9]], np.float32), (len(labels), 1))
    marks = None if crowd is None else np.array([label == crowd for label in labels])
    return Record(Path("a.jpg"), (10, 10), boxes, np.array(labels, np.int64), marks)


RECORDS = [image_with(0), image_with(0, 0, 1), image_with(0, 1), image_with(0, 1, 2, 2),
           image_with(0, 3, crowd=3), image_with(0), image_with(), image_with(0)]  # fmt: skip
"""Of 8 images 7 show class 0, 3 class 1, 1 class 2; class 3 is a crowd, class 4 is not there."""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return make_records(tmp_path_factory.mktemp("images"), COUNT)


def data_of(records: list[Record], *, balanced: bool = True) -> DetectionDataset:
    balance = balance_of(records, 3, 0.9)
    assert balance is not None
    weights = balance.factors if balanced else None
    return DetectionDataset(records, 64, augment=LIVELY, seed=3, weights=weights)


@each("threshold", [0.2, 0.5, 1.0])
def test_factors_are_those_of_the_formula(threshold: float) -> None:
    balance = balance_of(RECORDS, CLASSES, threshold)
    assert balance is not None and balance.threshold == threshold
    shares = [7 / 8, 3 / 8, 1 / 8]
    of_class = [max(1.0, math.sqrt(threshold / share)) for share in shares]
    shown = [{0}, {0, 1}, {0, 1}, {0, 1, 2}, {0}, {0}, set(), {0}]
    expected = [max((of_class[c] for c in classes), default=1.0) for classes in shown]
    assert balance.shares.tolist() == [*shares, 0, 0]
    assert balance.factors.tolist() == pytest.approx(expected)
    for c, share in enumerate(shares):
        drawn = sum(f for f, own in zip(expected, shown, strict=True) if c in own) / sum(expected)
        assert balance.gains[c] == pytest.approx(drawn / share)
    assert np.isnan(balance.gains[3:]).all()


def test_without_a_number_the_median_of_the_classes_is_the_threshold() -> None:
    balance = balance_of(RECORDS, CLASSES, None)
    assert balance is not None and balance.threshold == 3 / 8
    names = ("king", "queen", "rook", "crowd", "none")
    assert balance.line(names) == (
        "images of classes in less than 37.5 % of the training images are drawn more often: "
        "rook x1.59, queen x1.14, king x1.01"
    )
    many = balance_of([image_with(*range(c)) for c in range(1, 11)], 10, 0.9)
    assert many is not None
    line = many.line([f"c{c}" for c in range(10)])
    assert line.count(" x") == 6 and ", 4 more, c0 x1.00" in line


@each("threshold", [None, 0.125, 0.05])
def test_where_no_class_is_rarer_than_the_threshold_nothing_is_balanced(
    threshold: float | None,
) -> None:
    even = [image_with(0), image_with(1)]
    assert balance_of(even if threshold is None else RECORDS, CLASSES, threshold) is None
    assert balance_of([image_with()], CLASSES, threshold) is None


@each("total", [8, 24, 1000])
def test_an_image_is_drawn_as_often_as_its_weight_says_rounded_up_or_down(total: int) -> None:
    rng = np.random.default_rng(0)
    weights = rng.uniform(1, 6, 8)
    expected = total * weights / weights.sum()
    sums = np.zeros(8)
    for _ in range(1000):
        drawn = draw_epoch(rng, weights, total)
        counts = np.bincount(drawn, minlength=8)
        assert len(drawn) == total and (abs(counts - expected) < 1).all()
        sums += counts
    # the error of a mean of 1000 counts that differ by 1: at most 0.016 (one sigma)
    assert np.abs(sums / 1000 - expected).max() < 0.07


def test_copies_are_numbered() -> None:
    assert occurrences(np.array([5, 3, 5, 5, 3])).tolist() == [0, 0, 1, 2, 1]
    assert occurrences(np.array([], np.int64)).tolist() == []


@each("repeats", [1, 3])
def test_an_epoch_has_its_length_and_no_sample_twice(records: list[Record], repeats: int) -> None:
    loader = Loader(data_of(records), 4, shuffle=True, seed=5, workers=0, repeats=repeats)
    plain = Loader(
        data_of(records, balanced=False), 4, shuffle=True, seed=5, workers=0, repeats=repeats
    )
    assert len(loader) == len(plain)
    epochs = [loader._keys(epoch) for epoch in range(200)]
    assert all(len(set(keys)) == COUNT * repeats for keys in epochs)
    assert epochs[0] != [(0, *key[1:]) for key in epochs[1]]
    counts = Counter(index for keys in epochs for _, index, _ in keys)
    weights = loader.dataset.weights
    assert weights is not None
    for index in range(COUNT):
        expected = repeats * COUNT * weights[index] / weights.sum()
        assert counts[index] / 200 == pytest.approx(expected, abs=0.15)


def contents(loader: Loader, epoch: int, start_step: int = 0) -> list[tuple[list[int], bytes]]:
    """Indices and pixels of each batch."""
    batches = list(loader.epoch(epoch, start_step))
    loader.close()
    return [(batch.indices, batch.images.contiguous().numpy().tobytes()) for batch in batches]


def test_samples_do_not_depend_on_workers_ranks_or_where_an_epoch_is_entered(
    records: list[Record],
) -> None:
    whole = contents(Loader(data_of(records), 4, shuffle=True, seed=5, workers=0), 2)
    assert max(Counter(chain.from_iterable(indices for indices, _ in whole)).values()) > 1
    assert contents(Loader(data_of(records), 4, shuffle=True, seed=5, workers=2), 2) == whole
    late = Loader(data_of(records), 4, shuffle=True, seed=5, workers=0)
    assert contents(late, 2, start_step=1) == whole[1:]
    parts = [
        contents(Loader(data_of(records), 4, shuffle=True, seed=5, workers=0, rank=rank,
                        world_size=2), 2)
        for rank in range(2)
    ]  # fmt: skip
    for step, (first, second) in enumerate(zip(*parts, strict=True)):
        joined = first[0] + second[0]
        assert joined[: len(whole[step][0])] == whole[step][0]


def test_partners_in_mosaic_and_mixup_are_drawn_by_the_same_weights(records: list[Record]) -> None:
    data = data_of(records)
    keys: list[Key] = [(0, 0, repeat) for repeat in range(1500)]
    plans = [data.plan(key) for key in keys]
    partners = [
        tile.index
        for plan in plans
        for tile in (*plan.placements[1:], *plan.mixed)  # the first is the image itself
    ]
    counts, weights = np.bincount(partners, minlength=COUNT), data.weights
    assert weights is not None and len(partners) > 3000
    assert np.abs(counts / len(partners) - weights / weights.sum()).max() < 0.03
    assert {plan.placements[0].index for plan in plans} == {0}


def test_without_balance_images_and_partners_are_those_of_earlier_versions(
    records: list[Record],
) -> None:
    """Frozen on 2026-11-29, before there was balanced sampling."""
    data = data_of(records, balanced=False)
    keys = Loader(data, 4, shuffle=True, seed=5, workers=0)._keys(2)
    assert [key[1] for key in keys] == [6, 0, 1, 2, 8, 7, 5, 9, 4, 3, 10]
    plans = [data.plan(key) for key in keys[:4]]
    assert [[tile.index for tile in (*plan.placements, *plan.mixed)] for plan in plans] == [
        [6, 7, 4, 10], [0, 7, 5, 8, 3, 1, 4, 5], [1, 7, 6, 4], [2, 0, 4, 4]
    ]  # fmt: skip
