"""Weighted boxes fusion: cases computed by hand, and the paper's algorithm step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from yolodet.detector.evaluate.fusion import SAME, fuse, fused_detections, heard
from yolodet.detector.evaluate.postprocess import Detections
from yolodet.detector.options.detect import DetectOptions

Box = tuple[float, float, float, float]


def said(*rows: tuple[Box, float, int]) -> Detections:
    """Rows of box, score, label."""
    return Detections(
        torch.tensor([box for box, _, _ in rows]).reshape(-1, 4),
        torch.tensor([score for _, score, _ in rows]),
        torch.tensor([label for _, _, label in rows], dtype=torch.long),
    )


def iou(a: Box, b: Box) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(area) - width * height)


def by_the_paper(parts: list[list[tuple[Box, float, int]]]) -> list[tuple[Box, float, int]]:
    """Section 3 of arXiv 1910.13302 in plain Python: lists B, L and F."""
    listed = sorted((row for part in parts for row in part), key=lambda row: -row[1])
    clusters: list[list[tuple[Box, float, int]]] = []
    fused: list[tuple[Box, float, int]] = []
    for row in listed:
        same = [place for place, each in enumerate(fused) if each[2] == row[2]]
        near = [(iou(fused[place][0], row[0]), place) for place in same]
        best, place = max(near, key=lambda pair: pair[0], default=(0.0, -1))
        if best > SAME:
            clusters[place].append(row)
        else:
            place = len(clusters)
            clusters.append([row])
            fused.append(row)
        members = clusters[place]
        total = sum(score for _, score, _ in members)
        corners = [sum(score * box[side] for box, score, _ in members) / total for side in range(4)]
        fused[place] = (*[tuple(corners)], total / len(members), row[2])
    rated = [
        (box, score * min(len(members), len(parts)) / len(parts), label)
        for (box, score, label), members in zip(fused, clusters, strict=True)
    ]
    return sorted(rated, key=lambda row: -row[1])


def test_two_boxes_of_one_object_are_the_mean_weighted_by_their_scores() -> None:
    found = fuse([said(((0, 0, 10, 10), 0.8, 1)), said(((0, 0, 13, 10), 0.4, 1))])
    assert found.boxes.tolist() == [[0, 0, pytest.approx(11), 10]]  # (0.8 * 10 + 0.4 * 13) / 1.2
    assert found.scores.tolist() == [pytest.approx(0.6)] and found.labels.tolist() == [1]


def test_what_one_of_two_has_found_counts_half() -> None:
    found = fuse([said(((0, 0, 10, 10), 0.5, 0)), said()])
    assert found.scores.tolist() == [0.25]
    assert len(fuse([said(), said()])) == 0


def test_classes_and_distant_boxes_stay_apart() -> None:
    one = said(((0, 0, 10, 10), 0.9, 0), ((50, 0, 60, 10), 0.8, 0))
    other = said(((0, 0, 10, 10), 0.9, 1), ((0, 5, 10, 15), 0.7, 0))  # IoU 1/3 with the first
    assert sorted(fuse([one, other]).labels.tolist()) == [0, 0, 0, 1]


def test_more_boxes_than_voters_raise_no_score() -> None:
    one = said(((0, 0, 10, 10), 0.9, 0), ((0, 0, 10, 10), 0.6, 0))
    assert fuse([one, said(((0, 0, 10, 10), 0.6, 0))]).scores.tolist() == [pytest.approx(0.7)]


@pytest.mark.parametrize("voters", [1, 2, 5])
def test_it_is_the_algorithm_of_the_paper(voters: int) -> None:
    rng = np.random.default_rng(voters)
    for _ in range(20):
        centers = rng.uniform(0, 100, (6, 2))  # of objects, which each voter sees by about
        parts = []
        for _ in range(voters):
            low = centers[rng.integers(0, 6, 15)] + rng.normal(0, 3, (15, 2))
            boxes = np.concatenate((low, low + rng.uniform(15, 25, (15, 2))), 1).astype(np.float32)
            scores, labels = rng.random(15, np.float32), rng.integers(0, 2, 15)
            parts.append(
                [(tuple(box), score, label) for box, score, label in
                 zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)]
            )  # fmt: skip
        found, wanted = fuse([said(*part) for part in parts]), by_the_paper(parts)
        assert found.labels.tolist() == [label for _, _, label in wanted]
        assert np.allclose(found.scores, [score for _, score, _ in wanted], atol=1e-6)
        assert np.allclose(found.boxes, [box for box, _, _ in wanted], atol=1e-4)


def test_what_is_weak_in_each_may_pass_together() -> None:
    """A voter is heard from a share of the confidence on; what is fused must reach it."""
    detect = DetectOptions(conf=0.3, class_conf=(0.3, 0.5))
    assert heard(detect, 2).conf == 0.15 and heard(detect, 2).class_conf == (0.15, 0.25)
    box = (0, 0, 10, 10)
    parts = [said((box, 0.4, 0), (box, 0.5, 1)), said((box, 0.25, 0), (box, 0.4, 1))]
    found = fused_detections(parts, detect)
    assert found.labels.tolist() == [0] and found.scores.tolist() == [pytest.approx(0.325)]
    assert len(fused_detections(parts, DetectOptions(conf=0.3, max_det=1))) == 1
