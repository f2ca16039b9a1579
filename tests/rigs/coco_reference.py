"""pycocotools as the reference, and made-up data to compare on."""

from __future__ import annotations

import contextlib
import copy
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from yolodet.datasets.formats.record import Record
from yolodet.detector.evaluate.metrics import DetectionCollector, Metrics
from yolodet.detector.evaluate.postprocess import Detections

NAMES = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
RECALLS = ("ar_1", "ar_10", "ar_100")


def detections(boxes=(), scores=(), labels=()) -> Detections:
    """Sorted by score, as every Detections is."""
    scores = torch.as_tensor(np.array(scores, np.float32))
    order = scores.argsort(descending=True, stable=True)
    boxes = torch.as_tensor(np.array(boxes, np.float32).reshape(-1, 4))
    labels = torch.as_tensor(np.array(labels, np.int64))
    return Detections(boxes[order], scores[order], labels[order])


def add(collector, image_id, size, boxes, labels, found, crowd=None, areas=None) -> None:
    """Add ground truth and detections of one image to a collector; parameters as of Record."""
    collector.add(image_id, Record(Path("x.png"), size, boxes, labels, crowd, areas), found)


def pycocotools_numbers(ground_truth: dict, results: list[dict]) -> dict[str, float]:
    """COCO's reference implementation on the same dictionaries."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(ground_truth)
        truth.createIndex()
        if results:
            found = truth.loadRes(copy.deepcopy(results))
        else:
            found = COCO()  # pycocotools cannot load an empty list
            found.dataset = {**copy.deepcopy(ground_truth), "annotations": []}
            found.createIndex()
        evaluator = COCOeval(truth, found, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    stats = evaluator.stats[:9]
    return {k: math.nan if v < 0 else v for k, v in zip(NAMES + RECALLS, stats, strict=True)}


def assert_coco(collector: DetectionCollector) -> Metrics:
    metrics = collector.compute()
    expected = pycocotools_numbers(collector.coco_ground_truth(), collector.coco_results())
    found = {name: getattr(metrics, name) for name in NAMES + RECALLS}
    assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)
    return metrics


def random_boxes(rng: np.random.Generator, count: int, size=200.0, smallest=4.0) -> np.ndarray:
    low = rng.random((count, 2)) * size
    return np.concatenate((low, low + smallest + rng.random((count, 2)) ** 2 * size), 1)


def random_data(seed: int, *, images=12, classes=4, true=6, extra=8, jitter=6.0, levels=None,
                crowd=0.0) -> DetectionCollector:  # fmt: skip
    """True boxes, shifted copies of them as detections, and false alarms; levels: tied scores."""
    rng = np.random.default_rng(seed)
    collector = DetectionCollector([f"c{i}" for i in range(classes)])
    for image in range(images):
        truth = random_boxes(rng, rng.integers(0, true + 1))
        labels = rng.integers(0, classes, len(truth))
        copies = rng.integers(0, max(len(truth), 1), 2 * len(truth))
        noise = rng.normal(size=(len(copies), 4)) * jitter * rng.random((len(copies), 1))
        boxes = np.concatenate((truth[copies] + noise, random_boxes(rng, extra)))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        wrong = rng.integers(0, classes, len(copies) + extra)
        keep = rng.random(len(copies)) < 0.8
        wrong[: len(copies)][keep] = labels[copies][keep]
        scores = rng.random(len(boxes))
        scores = np.ceil(scores * levels) / levels if levels else scores
        found = detections(boxes, scores, wrong)
        groups = rng.random(len(truth)) < crowd
        add(collector, 1000 - image, (400, 500), truth.astype(np.float32), labels, found, groups)
    return collector
