"""From Predictions to Detections, against slow and obvious code and at the edges."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from rows import each
from yolodet.datasets.images.image import fit, letterbox_boxes
from yolodet.datasets.nouns import Letterbox
from yolodet.detector.evaluate import postprocess as post
from yolodet.detector.evaluate.postprocess import (
    BranchError,
    Detections,
    branches_for,
    nms_detections,
    postprocess,
    top_detections,
    uses_nms,
)
from yolodet.detector.models.predictions import ONE_TO_MANY, ONE_TO_ONE, Predictions
from yolodet.detector.options.detect import DetectOptions

NMS = {"conf": 0.05, "iou": 0.5, "max_det": 300, "agnostic": False}


def random_predictions(seed: int, batch=2, anchors=60, classes=5, size=100.0) -> Predictions:
    """Overlapping boxes of some 20 pixels with scores all over the range."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, anchors, classes, generator=g) * 2 - 1
    distances = torch.rand(batch, anchors, 4, generator=g) * 3 + 0.1
    points = torch.rand(anchors, 2, generator=g) * size
    return Predictions(logits, distances, points, torch.full((anchors,), 8.0))


def predictions_of(boxes, scores) -> Predictions:
    """One image whose anchors say exactly ``boxes`` [A,4] with ``scores`` [A,C]."""
    boxes, scores = torch.tensor(boxes), torch.tensor(scores)
    points = (boxes[:, :2] + boxes[:, 2:]) / 2
    distances = torch.cat((points - boxes[:, :2], boxes[:, 2:] - points), 1)
    ones = torch.ones(len(boxes))
    return Predictions(scores.logit()[None], distances[None], points, ones)


def decoded(p: Predictions, image: int) -> list[list[float]]:
    """Boxes as numbers, one anchor at a time."""
    boxes = []
    for (x, y), stride, d in zip(p.points, p.strides, p.distances[image], strict=True):
        left, top, right, bottom = (d * stride).tolist()
        boxes.append([float(x) - left, float(y) - top, float(x) + right, float(y) + bottom])
    return boxes


def iou_of(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inside = width * height
    return inside / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside)


def slow_nms(p: Predictions, image: int, conf, iou, max_det, agnostic):
    """Score by score, keep what no better box of the class overlaps."""
    scores = p.logits[image].sigmoid().tolist()
    boxes = decoded(p, image)
    pairs = [(s, a, c) for a, row in enumerate(scores) for c, s in enumerate(row) if s >= conf]
    kept: list[tuple[float, int, int]] = []
    for score, anchor, label in sorted(pairs, reverse=True):
        rivals = [k for k in kept if agnostic or k[2] == label]
        if all(iou_of(boxes[anchor], boxes[k[1]]) <= iou for k in rivals):
            kept.append((score, anchor, label))
    return [(boxes[a], s, c) for s, a, c in kept[:max_det]]


def assert_same(found: Detections, expected) -> None:
    assert len(found) == len(expected)
    assert found.labels.tolist() == [c for _, _, c in expected]
    torch.testing.assert_close(found.scores, torch.tensor([s for _, s, _ in expected]))
    torch.testing.assert_close(
        found.boxes, torch.tensor([b for b, _, _ in expected]).reshape(-1, 4), rtol=0, atol=1e-3
    )


@each("seed", range(4))
@each("agnostic", [False, True])
@each("iou", [0.3, 0.7])
@each("max_det", [7, 300])
def test_nms_equals_the_slow_reference(seed, agnostic, iou, max_det):
    p = random_predictions(seed)
    found = nms_detections(p, conf=0.2, iou=iou, max_det=max_det, agnostic=agnostic)
    for image in range(2):
        assert_same(found[image], slow_nms(p, image, 0.2, iou, max_det, agnostic))


def test_nms_of_many_candidates_takes_the_other_route_of_torchvision_and_agrees():
    p = random_predictions(1, batch=1, anchors=500, classes=3)  # beyond the coordinate trick
    (found,) = nms_detections(p, **{**NMS, "conf": 0.3})
    assert_same(found, slow_nms(p, 0, 0.3, 0.5, 300, False))


@each("seed", range(3))
@each("max_det", [1, 10, 60, 300])
def test_top_detections_are_the_best_pairs_of_the_best_anchors(seed, max_det):
    p = random_predictions(seed)
    rows = top_detections(p, max_det)
    assert rows.shape == (2, max_det, 6)
    for image in range(2):
        scores, boxes = p.logits[image].sigmoid().tolist(), decoded(p, image)
        anchors = sorted(range(60), key=lambda a: -max(scores[a]))[:max_det]
        pairs = sorted(((scores[a][c], a, c) for a in anchors for c in range(5)), reverse=True)
        expected = [(boxes[a], s, c) for s, a, c in pairs[:max_det]]
        found = rows[image, : len(expected)]
        assert_same(Detections(found[:, :4], found[:, 4], found[:, 5].long()), expected)
        assert not rows[image, len(expected) :].any()


def test_top_detections_pad_with_score_0_and_postprocess_drops_the_padding():
    p = random_predictions(0, batch=1, anchors=3, classes=2)
    rows = top_detections(p, 10)
    assert rows.shape == (1, 10, 6) and not rows[0, 6:].any()
    (found,) = postprocess({ONE_TO_ONE: p}, DetectOptions(conf=0.0, max_det=10))
    assert len(found) == 6


def test_top_detections_can_be_traced_and_exported():
    example, other = random_predictions(0), random_predictions(5)

    class Wrapped(torch.nn.Module):
        def forward(self, logits, distances, points, strides):
            return top_detections(Predictions(logits, distances, points, strides), 20)

    fields = ("logits", "distances", "points", "strides")
    inputs = tuple(getattr(example, name) for name in fields)
    exported = torch.export.export(Wrapped(), inputs).module()
    again = tuple(getattr(other, name) for name in fields)
    assert torch.equal(exported(*again), top_detections(other, 20))


def broken_anchors(where: str, value: float) -> tuple[Predictions, list[list[float]]]:
    """Two sound boxes of two classes and one anchor with the best score and one bad number."""
    boxes = [[10.0, 10, 50, 50], [60, 60, 90, 90], [10, 10, 50, 50]]
    p = predictions_of(boxes, [[0.8, 0.01], [0.01, 0.6], [0.01, 0.99]])
    getattr(p, where)[0, 2, 0] = value
    return p, boxes[:2]


@each(
    ("where", "value"),
    [
        ("logits", math.nan),
        ("distances", math.nan),
        ("distances", math.inf),
        ("distances", -1e4),  # a left side to the right of the right side
    ],
)
def test_an_anchor_with_a_bad_number_is_dropped_alone(where, value):
    p, sound = broken_anchors(where, value)
    (free,) = post.rows_to_detections(top_detections(p, 3), 0.5)
    (suppressed,) = nms_detections(p, **{**NMS, "conf": 0.5, "agnostic": True})
    for found in (free, suppressed):
        assert_same(found, [(sound[0], 0.8, 0), (sound[1], 0.6, 1)])


def test_a_bad_anchor_takes_no_place_among_max_det():
    p, sound = broken_anchors("logits", math.nan)
    assert_same(post.rows_to_detections(top_detections(p, 1), 0.0)[0], [(sound[0], 0.8, 0)])


def test_an_infinite_logit_is_a_sure_score():
    p = predictions_of([[0.0, 0, 9, 9], [20, 20, 30, 30]], [[1.0], [0.0]])
    assert torch.isinf(p.logits).all()
    assert_same(nms_detections(p, **NMS)[0], [([0.0, 0, 9, 9], 1.0, 0)])
    assert_same(post.rows_to_detections(top_detections(p, 2), 0.0)[0], [([0.0, 0, 9, 9], 1.0, 0)])


def test_a_model_of_nothing_but_nan_finds_nothing():
    p = random_predictions(0)
    p.logits[:] = math.nan
    assert [len(d) for d in nms_detections(p, **NMS)] == [0, 0]
    rows = top_detections(p, 10)
    assert not rows[..., :5].any() and rows.isfinite().all()


def test_nms_with_no_candidate_gives_empty_detections_of_the_right_kind():
    found = nms_detections(random_predictions(0), **{**NMS, "conf": 1.0})[0]
    assert found.boxes.shape == (0, 4) and found.boxes.dtype == torch.float32
    assert found.scores.dtype == torch.float32 and found.labels.dtype == torch.int64


def test_class_offsets_cost_no_precision():
    """In float32 an offset of 5,000 classes x 4,000 pixels rounds coordinates to 2 pixels."""
    classes = 5000
    scores = torch.full((2, classes), 1e-6)
    scores[:, classes - 1] = torch.tensor([0.9, 0.8])
    scores[0, 0] = 0.7
    boxes = [[100.0, 100, 103, 103], [101.6, 100, 104.6, 103], [3000, 3000, 3999, 3999]]
    scores = torch.cat((scores, torch.full((1, classes), 1e-6)))
    scores[2, classes - 1] = 0.6
    p = predictions_of(boxes, scores.tolist())
    assert 0.3 < iou_of(boxes[0], boxes[1]) < 0.31
    (found,) = nms_detections(p, **{**NMS, "iou": 0.31})
    assert found.labels.tolist() == [4999, 4999, 0, 4999]  # IoU 0.304 is no reason to suppress
    (found,) = nms_detections(p, **{**NMS, "iou": 0.30})
    assert found.labels.tolist() == [4999, 0, 4999]


def test_boxes_at_negative_coordinates_do_not_reach_into_the_next_class():
    """With an offset of (largest coordinate + 1) = 11, class 1's box would fall onto class 0's."""
    boxes = [[-30.0, -30, 10, 10], [-41, -41, -1, -1]]
    p = predictions_of(boxes, [[0.9, 0.01], [0.01, 0.8]])
    (found,) = nms_detections(p, **NMS)
    assert_same(found, [(boxes[0], 0.9, 0), (boxes[1], 0.8, 1)])


def test_one_anchor_may_name_several_classes():
    p = predictions_of([[0.0, 0, 9, 9]], [[0.9, 0.2, 0.7]])
    assert nms_detections(p, **NMS)[0].labels.tolist() == [0, 2, 1]
    assert nms_detections(p, **{**NMS, "agnostic": True})[0].labels.tolist() == [0]
    assert top_detections(p, 3)[0, :, 5].tolist() == [0, 2, 1]


def test_the_best_candidates_survive_the_cap(monkeypatch):
    monkeypatch.setattr(post, "MAX_CANDIDATES", 4)
    p = random_predictions(3, batch=1)
    (found,) = nms_detections(p, **{**NMS, "iou": 1.0})
    assert torch.equal(found.scores, p.logits.sigmoid().flatten().sort(descending=True)[0][:4])


def test_half_precision_predictions_are_decoded_in_float32():
    p = random_predictions(0)
    half = Predictions(p.logits.half(), p.distances.half(), p.points, p.strides)
    widened = Predictions(half.logits.float(), half.distances.float(), p.points, p.strides)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(top_detections(half, 50), top_detections(widened, 50))
        found = nms_detections(half, **NMS)[0]
    assert torch.equal(found.boxes, nms_detections(widened, **NMS)[0].boxes)


@pytest.mark.parametrize(
    ("size", "letterbox"),
    [((480, 640), Letterbox(0.5, 0.0, 40.0)), ((100, 33), Letterbox(3.2, 107.2, 0.0))],
)
def test_to_original_undoes_the_letterbox(size, letterbox):
    height, width = size
    g = torch.Generator().manual_seed(0)
    low = torch.rand(50, 2, generator=g) * torch.tensor([width, height]) * 0.8
    original = torch.cat((low, low + 0.01 + torch.rand(50, 2, generator=g) * 5), 1)
    pad = torch.tensor([letterbox.pad_x, letterbox.pad_y] * 2)
    d = Detections(original * letterbox.gain + pad, torch.rand(50), torch.zeros(50).long())
    torch.testing.assert_close(d.to_original(letterbox, size).boxes, original, rtol=0, atol=1e-3)


@each("size", [(480, 640), (333, 500), (1, 700), (37, 41), (320, 320)])
@each("image_size", [320, (256, 416)])
def test_to_original_leads_back_from_where_the_letterbox_put_boxes(size, image_size):
    height, width = size
    corners = np.random.default_rng(0).uniform(0, 1, (100, 4)).astype(np.float32)
    boxes = np.sort(corners.reshape(-1, 2, 2), 1).reshape(-1, 4) * (width, height, width, height)
    box = fit(size, image_size)
    there = torch.from_numpy(letterbox_boxes(boxes, box))
    back = Detections(there, torch.rand(100), torch.zeros(100).long()).to_original(box, size)
    assert len(back) == 100 and np.abs(back.boxes.numpy() - boxes).max() < 0.01


def test_to_original_clips_to_the_image_and_drops_what_lay_in_the_border():
    boxes = torch.tensor([[-20.0, 30, 700, 400], [10, 0, 50, 39], [0, 50, 10, 60]])
    d = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([3, 4, 5]))
    found = d.to_original(Letterbox(1.0, 0.0, 40.0), (300, 640))
    assert found.boxes.tolist() == [[0, 0, 640, 300], [0, 10, 10, 20]]
    assert found.labels.tolist() == [3, 5]


def test_above_counts_the_threshold_itself():
    d = Detections(torch.rand(3, 4), torch.tensor([0.9, 0.7, 0.2]), torch.tensor([2, 0, 2]))
    assert len(d.above(0.7)) == 2 and len(d.above(0.71)) == 1


def test_branches_follow_the_head_that_is_used():
    both = (ONE_TO_MANY, ONE_TO_ONE)
    assert branches_for(False, both) == (ONE_TO_ONE,)
    assert branches_for(True, both) == (ONE_TO_MANY,)
    assert branches_for(False, (ONE_TO_MANY,)) == (ONE_TO_MANY,)
    assert uses_nms(False, (ONE_TO_MANY,)) and not uses_nms(False, both)


@pytest.mark.parametrize(("nms", "available"), [(True, (ONE_TO_ONE,)), (False, ("other",))])
def test_a_branch_the_model_lacks_is_refused(nms, available):
    with pytest.raises(BranchError, match="one_to_many"):
        branches_for(nms, available)


def test_postprocess_reads_the_branch_that_was_asked_for():
    one, many = random_predictions(0), random_predictions(1)
    options = DetectOptions(conf=0.2, iou=0.5, max_det=20)
    outputs = {ONE_TO_ONE: one, ONE_TO_MANY: many}
    free = postprocess(outputs, options)[0]
    assert torch.equal(free.boxes, top_detections(one, 20)[0, : len(free), :4])
    suppressed = postprocess(outputs, replace(options, nms=True))[1]
    assert_same(suppressed, slow_nms(many, 1, 0.2, 0.5, 20, False))
