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


Row = tuple[Box, float, int]


def by_the_paper(parts: list[list[Row]], *, once: bool) -> list[Row]:
    """Section 3 of arXiv 1910.13302 in plain Python: lists B, L and F.  once: with at most one box
    of each voter in a fused one."""
    listed = sorted(
        ((row, voter) for voter, part in enumerate(parts) for row in part),
        key=lambda pair: -pair[0][1],
    )
    clusters: list[list[tuple[Row, int]]] = []
    fused: list[Row] = []
    for row, voter in listed:
        free = [
            place for place, each in enumerate(fused)
            if each[2] == row[2] and not (once and voter in [who for _, who in clusters[place]])
        ]  # fmt: skip
        near = [(iou(fused[place][0], row[0]), place) for place in free]
        best, place = max(near, key=lambda pair: pair[0], default=(0.0, -1))
        if best > SAME:
            clusters[place].append((row, voter))
        else:
            place = len(clusters)
            clusters.append([(row, voter)])
            fused.append(row)
        members = [member for member, _ in clusters[place]]
        total = sum(score for _, score, _ in members)
        x1, y1, x2, y2 = (
            sum(score * box[side] for box, score, _ in members) / total for side in range(4)
        )
        fused[place] = ((x1, y1, x2, y2), total / len(members), row[2])
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


def test_boxes_of_one_voter_stay_apart() -> None:
    """They are different objects; the box of the other voter joins the better one."""
    one = said(((0, 0, 10, 10), 0.9, 0), ((0, 0, 10, 9), 0.6, 0))
    found = fuse([one, said(((0, 0, 10, 10), 0.5, 0))])
    assert found.scores.tolist() == [pytest.approx(0.7), pytest.approx(0.3)]
    assert found.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 10, 9]]


@pytest.mark.parametrize("voters", [1, 2, 5])
@pytest.mark.parametrize("crowded", [True, False])
def test_it_is_the_algorithm_of_the_paper(voters: int, crowded: bool) -> None:
    """Of objects that overlap with the stated addition, of others without it too."""
    rng = np.random.default_rng(voters)
    for _ in range(20):
        centers = rng.uniform(0, 100, (8, 2)) if crowded else np.arange(16).reshape(8, 2) * 40.0
        parts = []
        for _ in range(voters):
            seen = rng.integers(0, 8, 15) if crowded else rng.permutation(8)[:6]
            low = centers[seen] + rng.normal(0, 3, (len(seen), 2))
            sides = rng.uniform(15, 25, (len(seen), 2))
            boxes = np.concatenate((low, low + sides), 1).astype(np.float32)
            scores = rng.random(len(seen), np.float32)
            labels = rng.integers(0, 2, len(seen))
            rows = zip(boxes.tolist(), scores.tolist(), labels.tolist(), strict=True)
            parts.append([(tuple(box), score, label) for box, score, label in rows])
        found = fuse([said(*part) for part in parts])
        for once in (True,) if crowded else (True, False):
            wanted = by_the_paper(parts, once=once)
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
