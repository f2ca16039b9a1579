"""NMS in plain tensor code against the NMS of postprocessing."""

from __future__ import annotations

import pytest
import torch
from rows import each
from yolodet.detector.evaluate.postprocess import nms_detections, rows_to_detections, top_detections
from yolodet.detector.export.nms import CANDIDATES, nms_rows, overlaps
from yolodet.detector.models.predictions import Predictions


def crowd(seed: int, images: int = 2, anchors: int = 300, classes: int = 3) -> Predictions:
    """Boxes around few places, so that many overlap, with scores that all differ."""
    rng = torch.Generator().manual_seed(seed)
    points = torch.randint(0, 5, (anchors, 2), generator=rng) * 40.0
    points = points + 12 * torch.rand(anchors, 2, generator=rng)
    distances = 10 + 25 * torch.rand(images, anchors, 4, generator=rng)
    logits = 3 * torch.randn(images, anchors, classes, generator=rng)
    return Predictions(logits, distances, points, torch.ones(anchors))


@each("agnostic", [False, True])
@each("iou", [0.3, 0.7])
def test_the_same_boxes_are_kept(iou: float, agnostic: bool) -> None:
    for seed in range(5):
        found = crowd(seed)
        rows = nms_rows(top_detections(found, CANDIDATES), iou=iou, max_det=80, agnostic=agnostic)
        wanted = nms_detections(found, conf=0.0, iou=iou, max_det=80, agnostic=agnostic)
        for one, other in zip(wanted, rows_to_detections(rows, 0.0), strict=True):
            assert len(one) > 15
            assert torch.equal(one.labels, other.labels)
            assert torch.allclose(one.boxes, other.boxes)
            assert torch.allclose(one.scores, other.scores)


def test_a_chain_of_boxes_of_overlaps_is_solved() -> None:
    """Each box overlaps its neighbors alone: the first goes in, the second out, and so on."""
    starts = 30.0 * torch.arange(16)
    boxes = torch.stack((starts, torch.zeros(16), starts + 100, torch.full((16,), 50.0)), 1)
    scores = torch.linspace(0.9, 0.3, 16)
    rows = torch.cat((boxes, scores[:, None], torch.zeros(16, 1)), 1)[None]
    kept = nms_rows(rows, iou=0.5, max_det=16, agnostic=False)[0]
    assert kept[kept[:, 4] > 0, 0].tolist() == starts[::2].tolist()


def test_few_rows_are_padded_and_boxes_without_area_overlap_nothing() -> None:
    rows = torch.tensor([[[5.0, 5, 5, 5, 0.9, 0], [5, 5, 5, 5, 0.8, 0]]])
    found = nms_rows(rows, iou=0.5, max_det=4, agnostic=True)
    assert found.shape == (1, 4, 6)
    assert found[0, :, 4].tolist() == pytest.approx([0.9, 0.8, 0, 0])
    assert overlaps(rows[..., :4]).abs().max() == 0
