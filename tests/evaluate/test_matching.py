"""Matches, curves and the confusion matrix against brute force and cases worked out by hand."""

from __future__ import annotations

import contextlib
import io
import json
import math

import numpy as np
import pytest
from coco_reference import (
    add,
    detections,
    random_boxes,
    random_data,
)
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rows import each
from yolodet.detector.evaluate import matching
from yolodet.detector.evaluate.metrics import DetectionCollector
from yolodet.detector.evaluate.postprocess import Detections


def slow_match(truth, labels, found: Detections, conf: float, iou: float):
    """(true positives, detections, true boxes) of each class in one image, one box at a time."""
    counts = {}
    for label in range(4):
        mine = [b for b, c in zip(truth, labels, strict=True) if c == label]
        taken = [False] * len(mine)
        right = number = 0
        for box, score, c in zip(found.boxes.tolist(), found.scores, found.labels, strict=True):
            if int(c) != label or score < np.float32(conf):
                continue
            number += 1
            pairs = zip(mine, taken, strict=True)
            overlaps = [0 if used else slow_iou(box, b) for b, used in pairs]
            best = int(np.argmax(overlaps)) if overlaps else -1
            if overlaps and overlaps[best] >= iou:
                taken[best] = True
                right += 1
        counts[label] = np.array([right, number, len(mine)])
    return counts


def slow_iou(a, b) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def test_precision_recall_f1_equal_a_brute_force_sweep():
    rng = np.random.default_rng(5)
    collector, images = DetectionCollector(list("abcd")), []
    for image in range(6):
        truth, labels = random_boxes(rng, 6), rng.integers(0, 4, 6)
        boxes = np.concatenate((truth + rng.normal(size=(6, 4)) * 3, random_boxes(rng, 6)))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        guesses = np.concatenate((labels, rng.integers(0, 4, 6)))
        found = detections(boxes, rng.random(12).round(2), guesses)
        images.append((truth, labels, found))
        add(collector, image, (400, 400), truth, labels, found)
    metrics = collector.compute()
    grid = np.arange(0, 1001, 10)
    table = np.zeros((len(grid), 4, 3))  # precision, recall, F1
    for i, place in enumerate(grid):
        matches = [slow_match(*image, conf=place / 1000, iou=0.5) for image in images]
        for label in range(4):
            right, number, wanted = sum(m[label] for m in matches)
            precision, recall = right / max(number, 1), right / wanted
            table[i, label] = precision, recall, 2 * right / (number + wanted)
    curves = metrics.curves
    np.testing.assert_allclose(curves.precision[:, grid].T, table[..., 0], atol=1e-12)
    np.testing.assert_allclose(curves.recall[:, grid].T, table[..., 1], atol=1e-12)
    np.testing.assert_allclose(curves.f1[:, grid].T, table[..., 2], atol=1e-12)
    assert metrics.f1 == pytest.approx(table[..., 2].mean(1).max())  # scores lie on the grid
    at_best = [slow_match(*image, conf=metrics.best_conf, iou=0.5) for image in images]
    for label, row in enumerate(metrics.per_class):
        right, number, wanted = sum(m[label] for m in at_best)
        expected = (right / max(number, 1), right / wanted)
        assert (row.precision, row.recall) == pytest.approx(expected)
    assert metrics.precision == pytest.approx(np.mean([row.precision for row in metrics.per_class]))


OPTIONS = [{}, {"levels": 4}, {"crowd": 0.3}, {"crowd": 0.5, "levels": 2}]


@each("options", OPTIONS)
def test_our_matching_gives_the_average_precision_of_coco(options):
    """AP at IoU 0.5 and 0.75 worked out from ``match`` alone equals COCO's."""
    collector = random_data(11, classes=1, images=20, **options)
    metrics = collector.compute()
    found = matching.BoxTable(*columns(collector._found))
    truth = matching.BoxTable(*columns(collector._truth))
    for iou, expected in ((0.5, metrics.map_50), (0.75, metrics.map_75)):
        owners = matching.match(found, truth, iou)
        ignored = (owners >= 0) & truth.crowd[owners]
        order = np.argsort(-found.scores, kind="stable")
        # COCO visits images by id, and breaks ties of score that way
        ids = np.array(collector._ids)[found.images]
        order = np.lexsort((np.arange(len(found)), ids, -found.scores))
        right = ((owners >= 0) & ~ignored)[order][~ignored[order]]
        recall = right.cumsum() / (~truth.crowd).sum()
        precision = right.cumsum() / np.arange(1, len(right) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, np.linspace(0, 1, 101), "left")
        ap = np.append(envelope, 0)[places].mean()
        assert ap == pytest.approx(expected, abs=1e-9)


def columns(tables):
    return [np.concatenate(column) for column in zip(*(t.columns for t in tables), strict=True)]


@pytest.mark.parametrize(
    ("truth", "crowd", "taken"),
    [
        ([[0, 0, 10, 10], [10, 0, 20, 10]], [False, False], 1),  # equal overlaps: the later
        ([[2, 0, 12, 10], [0, 0, 30, 30]], [False, True], 0),  # a crowd only without another
        ([[0, 0, 30, 30], [11, 0, 21, 10]], [True, False], 0),  # the other overlaps too little
    ],
)
def test_a_detection_between_two_true_boxes_takes_the_one_coco_gives_it(truth, crowd, taken):
    collector = DetectionCollector(["a"])
    found = detections([[5, 0, 15, 10]], [0.9], [0])
    add(collector, 0, (50, 50), np.array(truth), np.zeros(2, int), found, np.array(crowd))
    tables = [matching.BoxTable(*columns(t)) for t in (collector._found, collector._truth)]
    assert matching.match(*tables, 0.33).tolist() == [taken]
    assert coco_match(collector, 0.33) == taken


def coco_match(collector: DetectionCollector, iou: float) -> int:
    """Row of the true box that pycocotools gives the only detection of the only image."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = collector.coco_ground_truth()
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(collector.coco_results()), "bbox")
        evaluator.params.iouThrs = np.array([iou])
        evaluator.evaluate()
    return int(evaluator.evalImgs[0]["dtMatches"][0, 0]) - 1


def test_matching_in_small_chunks_changes_nothing(monkeypatch):
    whole = random_data(2, crowd=0.2).compute()
    monkeypatch.setattr(matching, "PAIRS_A_CHUNK", 3)
    small = random_data(2, crowd=0.2).compute()
    np.testing.assert_array_equal(whole.curves.f1, small.curves.f1)
    np.testing.assert_array_equal(whole.confusion, small.confusion)


def test_confusion_matrix_of_a_case_worked_out_by_hand():
    cat, dog, bird = 0, 1, 2
    truth = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10], [80, 0, 99, 10]]
    true_labels = [cat, cat, dog, bird, dog]
    crowd = [False, False, False, False, True]
    found = detections(
        [
            [0, 0, 10, 10],  # the first cat
            [0, 0, 10, 9],  # the same cat again: a false alarm
            [20, 0, 30, 10],  # the second cat, called a dog
            [40, 0, 50, 10],  # the dog
            [60, 0, 70, 4],  # the bird, overlap 0.4: too little
            [82, 0, 90, 10],  # inside the crowd of dogs: counts neither way
            [0, 50, 10, 60],  # nothing there, called a bird
            [60, 0, 70, 10],  # the bird, but below the confidence
        ],
        [0.9, 0.8, 0.9, 0.9, 0.8, 0.9, 0.8, 0.1],
        [cat, cat, dog, dog, bird, dog, bird, bird],
    )
    collector = DetectionCollector(["cat", "dog", "bird"])
    add(collector, 0, (100, 100), np.array(truth), np.array(true_labels), found, np.array(crowd))
    table = matching.BoxTable(*columns(collector._found))
    usable = table.select(table.scores >= 0.5)
    confusion = matching.confusion_matrix(usable, matching.BoxTable(*columns(collector._truth)), 3)
    assert confusion.tolist() == [
        [1, 1, 0, 0],  # cats: one right, one called a dog
        [0, 1, 0, 0],  # the dog
        [0, 0, 0, 1],  # the bird was missed
        [1, 0, 2, 0],  # false alarms: the second cat, two birds
    ]


def test_a_confusion_matrix_prefers_the_right_class_to_a_little_more_overlap():
    """A rider on a horse: boxes nearly alike, each detection overlaps the other's truth more."""
    truth = np.array([[0.0, 0, 100, 100], [0, 0, 100, 98]])
    found = detections([[0, 0, 100, 98], [0, 0, 100, 100]], [0.9, 0.8], [0, 1])
    collector = DetectionCollector(["rider", "horse"])
    add(collector, 0, (100, 100), truth, np.array([0, 1]), found)
    assert collector.compute().confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_a_confusion_matrix_counts_every_true_box_once():
    for seed in range(4):
        metrics = random_data(seed).compute()
        assert metrics.confusion[:-1].sum(1).tolist() == [row.boxes for row in metrics.per_class]


def test_counts_of_images_and_boxes_leave_out_crowds():
    collector = DetectionCollector(["a", "b"])
    boxes = random_boxes(np.random.default_rng(0), 3)
    add(collector, 5, (9, 9), boxes, np.array([0, 0, 1]), detections(), np.array([0, 1, 0]))
    add(collector, 6, (9, 9), boxes[:1], np.array([0]), detections())
    metrics = collector.compute()
    assert [(row.images, row.boxes) for row in metrics.per_class] == [(2, 2), (1, 1)]
    assert (metrics.num_images, metrics.num_boxes) == (2, 3)


def test_to_dict_is_json_with_none_for_what_does_not_exist():
    metrics = random_data(3, classes=60, images=2).compute()
    data = json.loads(json.dumps(metrics.to_dict(curves=True), allow_nan=False))
    assert None in [row["ap"] for row in data["per_class"]]
    assert data["map"] == pytest.approx(metrics.map)
    assert len(data["confusion"]) == 61 and len(data["curves"]["f1"][0]) == 1001
    assert "curves" not in metrics.to_dict()


def test_computing_prints_nothing_and_can_be_repeated(capsys, caplog):
    caplog.set_level("DEBUG")
    collector = random_data(0)
    first, second = collector.compute(), collector.compute()
    assert first.to_dict(curves=True) == second.to_dict(curves=True)
    assert capsys.readouterr() == ("", "") and not caplog.records


def test_results_are_plain_coco_rows():
    collector = DetectionCollector(["a", "b"])
    add(collector, 7, (9, 9), np.empty((0, 4)), np.empty(0), detections([[1, 2, 4, 8]], [0.5], [1]))
    collector.compute()
    row = {"image_id": 7, "category_id": 1, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5}
    assert json.loads(json.dumps(collector.coco_results())) == [row]


@each(
    ("found", "labels", "message"),
    [
        (detections([[0, 0, 1, 1]], [0.5], [2]), [0], "detections of image 4: class id 2"),
        (detections([[0, 0, 1, 1]], [math.nan], [0]), [0], "not finite"),
        (detections([[0, 0, math.inf, 1]], [0.5], [0]), [0], "not finite"),
        (detections(), [-1], "true boxes of image 4: class id -1"),
        (detections(), [0, 0], "one value per box"),
    ],
)
def test_what_cannot_be_measured_is_refused(found, labels, message):
    collector = DetectionCollector(["a", "b"])
    with pytest.raises(ValueError, match=message):
        add(collector, 4, (9, 9), np.array([[0.0, 0, 1, 1]]), np.array(labels), found)
    assert len(collector) == 0


def test_an_image_added_twice_is_refused():
    collector = DetectionCollector(["a"])
    for _ in range(2):
        add(collector, 4, (9, 9), np.empty((0, 4)), np.empty(0), detections())
    with pytest.raises(ValueError, match="added twice"):
        collector.compute()
