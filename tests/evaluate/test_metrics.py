"""AP numbers against pycocotools, on random and adversarial data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from coco_reference import (
    add,
    assert_coco,
    detections,
    random_boxes,
    random_data,
)
from rows import each
from yolodet.detector.evaluate.metrics import DetectionCollector


@each("seed", range(6))
def test_random_data_scores_as_in_pycocotools(seed):
    metrics = assert_coco(random_data(seed))
    assert 0.05 < metrics.map < 0.9


@each(
    "options",
    [
        {"levels": 3},  # score ties
        {"levels": 1, "classes": 1},
        {"crowd": 0.4},
        {"crowd": 0.4, "levels": 2, "jitter": 2.0},
        {"extra": 150, "classes": 1, "images": 3},  # more than 100 of a class in an image
        {"extra": 150, "classes": 1, "images": 3, "levels": 4},
        {"true": 0},
        {"classes": 60, "images": 6},  # most classes without images
        {"images": 1, "classes": 1},
        {"crowd": 1.0},  # nothing but groups
        {"crowd": 0.3, "levels": 2, "extra": 150, "classes": 9, "images": 4},  # all at once
    ],
)
def test_adversarial_data_scores_as_in_pycocotools(options):
    assert_coco(random_data(7, **options))


def test_a_crowded_image_has_a_second_ap_of_all_detections():
    """COCO's AP counts the 100 best detections: 300 perfect ones are a third of the truth."""
    for count, crowded in ((100, 0), (300, 1)):
        x, y = np.divmod(np.arange(count), 20)
        boxes = np.stack((20.0 * x, 20.0 * y, 20.0 * x + 10, 20.0 * y + 10), 1)
        collector = DetectionCollector(["a"])
        found = detections(boxes.tolist(), np.linspace(0.5, 0.9, count).tolist(), [0] * count)
        add(collector, 1, (400, 400), boxes, np.zeros(count, np.int64), found)
        metrics = assert_coco(collector)
        assert (metrics.crowded, metrics.map_all, metrics.score) == (crowded, 1.0, 1.0)
        assert metrics.map == pytest.approx(1.0 if not crowded else 34 / 101, abs=1e-6)


def test_no_detections_and_no_truth_score_as_in_pycocotools():
    nothing, only_truth, only_found = (DetectionCollector(["a", "b"]) for _ in range(3))
    box = [[10.0, 10, 60, 60]]
    add(nothing, 1, (100, 100), np.empty((0, 4)), np.empty(0), detections())
    add(only_truth, 1, (100, 100), np.array(box), np.array([0]), detections())
    add(only_found, 1, (100, 100), np.empty((0, 4)), np.empty(0), detections(box, [0.9], [1]))
    assert math.isnan(assert_coco(nothing).map)
    metrics = assert_coco(only_truth)
    assert (metrics.map, metrics.recall, metrics.precision, metrics.f1) == (0, 0, 0, 0)
    assert metrics.best_conf == 0.25 and metrics.confusion[0].tolist() == [0, 0, 1]
    metrics = assert_coco(only_found)
    assert math.isnan(metrics.map) and math.isnan(metrics.f1)
    assert metrics.confusion[2].tolist() == [0, 1, 0]


def test_no_image_at_all_has_no_numbers():
    metrics = DetectionCollector(["a"]).compute()
    assert math.isnan(metrics.map) and math.isnan(metrics.ar_100) and metrics.num_images == 0


def test_duplicate_boxes_score_as_in_pycocotools():
    box = [50.0, 50, 120, 130]
    collector = DetectionCollector(["a"])
    found = detections([box] * 5, [0.9, 0.9, 0.9, 0.5, 0.4], [0] * 5)
    add(collector, 3, (200, 200), np.array([box, box, [0, 0, 9, 9]]), np.zeros(3, int), found)
    metrics = assert_coco(collector)
    assert metrics.recall == pytest.approx(2 / 3)


@pytest.mark.parametrize("scores", [np.linspace(0.9, 0.5, 160), np.full(160, 0.5)])
def test_every_box_found_forty_times_scores_as_in_pycocotools(scores):
    rng = np.random.default_rng(0)
    collector = DetectionCollector(["a", "b"])
    for image in range(5):
        truth, labels = random_boxes(rng, 4), rng.integers(0, 2, 4)
        found = detections(np.tile(truth, (40, 1)), rng.permutation(scores), np.tile(labels, 40))
        add(collector, image, (500, 500), truth, labels, found, np.arange(4) == image)
    assert_coco(collector)


def test_boxes_on_the_borders_of_area_ranges_score_as_in_pycocotools():
    collector = DetectionCollector(["a"])
    sides = [31.999, 32, 32.001, 95.999, 96, 96.001]
    truth = np.array([[100.0 * i, 0, 100 * i + s, s] for i, s in enumerate(sides)], np.float32)
    found = detections(truth, np.linspace(0.9, 0.4, 6), [0] * 6)
    add(collector, 0, (100, 700), truth, np.zeros(6, int), found)
    assert_coco(collector)


def test_overlaps_exactly_at_a_threshold_count_as_in_pycocotools():
    collector = DetectionCollector(["a"])
    truth = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    boxes = [[0, 0, 10, 5], [20, 0, 30, 7.5], [40, 0, 50, 9.5]]
    found = detections(boxes, [0.9, 0.8, 0.7], [0] * 3)
    add(collector, 0, (60, 60), truth, np.zeros(3, int), found)
    metrics = assert_coco(collector)
    assert metrics.map_50 == pytest.approx(1.0) and metrics.recall == 1.0


def test_given_areas_sort_boxes_as_in_pycocotools():
    collector = DetectionCollector(["a"])
    truth = np.array([[0.0, 0, 50, 50], [100, 0, 150, 50]])
    found = detections(truth[:1], [0.9], [0])
    add(collector, 0, (200, 200), truth, np.zeros(2, int), found, areas=np.array([500.0, 2000.0]))
    metrics = assert_coco(collector)
    assert (metrics.map_small, metrics.map_medium) == (pytest.approx(1.0), 0.0)


def test_perfect_detections_score_1_everywhere():
    rng = np.random.default_rng(0)
    collector = DetectionCollector(["a", "b", "never seen"])
    for image in range(5):
        truth, labels = random_boxes(rng, 8), rng.integers(0, 2, 8)
        add(collector, image, (500, 500), truth, labels, detections(truth, [0.9] * 8, labels))
    metrics = assert_coco(collector)
    assert metrics.map == pytest.approx(1) and metrics.map_50 == pytest.approx(1)
    assert (metrics.precision, metrics.recall, metrics.f1) == (1, 1, 1)
    assert metrics.best_conf == pytest.approx(0.45)  # the middle of what is equally good
    assert metrics.confusion.sum() == metrics.confusion.trace() == metrics.num_boxes == 40
    assert math.isnan(metrics.per_class[2].ap) and metrics.per_class[2].boxes == 0
