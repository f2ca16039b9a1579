"""The paired bootstrap: AP of weights is AP of repeated images; intervals hold what they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from yolodet.datasets.formats.record import Record
from yolodet.detector.evaluate.bootstrap import Ranked, compare, rank, samples, weighted_ap
from yolodet.detector.evaluate.metrics import DetectionCollector
from yolodet.detector.evaluate.postprocess import Detections
from yolodet.detector.evaluate.tables import join_tables

NAMES = ["a", "b", "c"]
Scene = tuple[Record, Detections]


def scene(rng: np.random.Generator, skill: float, truth: Record | None = None) -> Scene:
    """An image with a few boxes, crowds among them, and detections of a detector of that skill."""
    if truth is None:
        count = int(rng.integers(0, 6))
        corners = rng.uniform(0, 60, (count, 2))
        boxes = np.concatenate((corners, corners + rng.uniform(10, 40, (count, 2))), 1)
        truth = Record(
            Path("x.jpg"), (100, 100), boxes.astype(np.float32), rng.integers(0, 2, count),
            crowd=rng.random(count) < 0.1,
        )  # fmt: skip
    seen = rng.random(len(truth.boxes)) < skill
    near = truth.boxes[seen] + rng.normal(0, 4 * (1.2 - skill), (int(seen.sum()), 4))
    extra = rng.uniform(0, 50, (int(rng.integers(0, 3)), 2))
    boxes = np.concatenate((near, np.concatenate((extra, extra + 30), 1)))
    labels = np.concatenate((truth.labels[seen], rng.integers(0, 3, len(extra))))
    scores = np.concatenate((rng.uniform(0.3, 1, len(near)), rng.uniform(0, 0.7, len(extra))))
    found = Detections(
        torch.tensor(boxes, dtype=torch.float32), torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels),
    )  # fmt: skip
    return truth, found


def collected(scenes: list[Scene]) -> DetectionCollector:
    collector = DetectionCollector(NAMES)
    for place, (record, found) in enumerate(scenes):
        collector.add(place, record, found)
    return collector


def ranked(scenes: list[Scene]) -> list[Ranked]:
    pairs = list(collected(scenes).tables())
    found, truth = (join_tables([pair[side] for pair in pairs]) for side in (0, 1))
    return rank(found, truth, len(scenes), len(NAMES))


def test_ap_of_weights_is_cocos_ap_of_repeated_images() -> None:
    rng = np.random.default_rng(0)
    scenes = [scene(rng, 0.7) for _ in range(30)]
    weights = np.concatenate((np.ones((1, 30), int), samples(30, 6, seed=1)))
    ours = weighted_ap(ranked(scenes), weights)
    for row, drawn in zip(ours, weights, strict=True):
        repeated = [s for s, count in zip(scenes, drawn, strict=True) for _ in range(count)]
        slow = collected(repeated).compute().per_class
        np.testing.assert_allclose(row, [each.ap for each in slow], atol=1e-9)


def test_the_interval_is_that_of_a_full_evaluation_of_every_redrawn_set() -> None:
    """The slow way: each redrawn set of images is evaluated from its boxes, for both detectors."""
    rng = np.random.default_rng(0)
    truths = [scene(rng, 0.5)[0] for _ in range(15)]
    a, b = ([scene(rng, skill, truth) for truth in truths] for skill in (0.5, 0.8))
    draws = rng.integers(0, 15, (200, 15))
    gains = []
    for draw in draws:
        slow = [collected([side[n] for n in draw]).compute() for side in (a, b)]
        each = [(two.ap - one.ap) for one, two in zip(*(m.per_class for m in slow), strict=True)]
        gains.append([slow[1].map - slow[0].map, *each])
    weights = np.stack([np.bincount(draw, minlength=15) for draw in draws])
    found = compare(ranked(a), ranked(b), weights, level=0.9)
    for fast, column in zip((found.overall, *found.classes), np.transpose(gains), strict=True):
        known = column[~np.isnan(column)]
        wanted = np.quantile(known, (0.05, 0.95)) if len(known) else (np.nan, np.nan)
        np.testing.assert_allclose((fast.low, fast.high), wanted, atol=1e-9)
    assert found.overall.low < found.overall.value < found.overall.high
    assert np.isnan(found.classes[2].low)  # no image has a box of it


def test_images_without_boxes_and_classes_without_images_have_no_numbers() -> None:
    rng = np.random.default_rng(0)
    nothing = Record(Path("x.jpg"), (9, 9), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    scenes = [scene(rng, 0.7, nothing) for _ in range(4)]
    found = compare(ranked(scenes), ranked(scenes), samples(4, 100, 0))
    assert np.isnan(found.overall.value) and not found.overall.clear


def test_a_detector_is_never_clearly_different_from_itself() -> None:
    rng = np.random.default_rng(0)
    side = ranked([scene(rng, 0.7) for _ in range(20)])
    found = compare(side, side, samples(20, 200, 0))
    assert (found.overall.low, found.overall.high, found.overall.clear) == (0.0, 0.0, False)


def pair_of_detectors(rng: np.random.Generator, images: int, skills: tuple[float, float]) -> list:
    truths = [scene(rng, 0.5)[0] for _ in range(images)]
    return [ranked([scene(rng, skill, truth) for truth in truths]) for skill in skills]


@pytest.mark.slow
def test_the_interval_covers_the_true_difference_in_90_to_99_of_100_pairs() -> None:
    """True: the difference on many images.  60 images and 300 samples each."""
    rng = np.random.default_rng(0)
    skills = (0.6, 0.7)
    ones = np.ones((1, 4000), int)
    large = [weighted_ap(side, ones) for side in pair_of_detectors(rng, 4000, skills)]
    truth = float(np.nanmean(large[1]) - np.nanmean(large[0]))
    covered = 0
    for turn in range(100):
        sides = pair_of_detectors(rng, 60, skills)
        found = compare(*sides, samples(60, 300, turn)).overall
        covered += found.low <= truth <= found.high
    assert 90 <= covered <= 99


@pytest.mark.slow
def test_equally_good_detectors_are_called_different_at_most_8_times_in_100() -> None:
    rng = np.random.default_rng(1)
    wrong = sum(
        compare(*pair_of_detectors(rng, 60, (0.6, 0.6)), samples(60, 300, turn)).overall.clear
        for turn in range(100)
    )
    assert wrong <= 8
