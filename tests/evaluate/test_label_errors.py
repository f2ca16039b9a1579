"""Labels that look wrong: each kind of error is found, and what is right is left alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from exports import make_run, write_data
from rows import each
from yolodet import cli
from yolodet.datasets.boxes import overlaps
from yolodet.datasets.formats.record import Record
from yolodet.detector.examine.found import Found
from yolodet.detector.examine.suspicions import Suspicion, accept, suspicions

RNG = np.random.default_rng(0)


def scene(number: int) -> tuple[Record, Found]:
    """Four objects of three classes in an image, labeled right, and a good detector's answer: boxes
    off by a few pixels, scores of 0.7 to 0.95."""
    corners = np.array([[10, 10], [110, 20], [20, 120], [130, 130]], np.float32)
    boxes = np.concatenate((corners, corners + RNG.uniform(40, 60, (4, 2))), 1).astype(np.float32)
    labels = RNG.integers(0, 3, 4)
    seen = boxes + RNG.uniform(-2, 2, (4, 4)).astype(np.float32)
    scores = np.sort(RNG.uniform(0.7, 0.95, 4))[::-1].astype(np.float32)
    record = Record(Path(f"{number}.jpg"), (200, 200), boxes, labels.astype(np.int64))
    return record, Found(seen, labels.astype(np.int64), scores)


@pytest.fixture(scope="module")
def scenes() -> list[tuple[Record, Found]]:
    return [scene(number) for number in range(30)]


def changed(record: Record, kind: str) -> Record:
    """The second box of a record spoiled."""
    boxes, labels = record.boxes.copy(), record.labels.copy()
    if kind == "missing":
        keep = np.arange(4) != 1
        boxes, labels = boxes[keep], labels[keep]
    elif kind == "wrong class":
        labels[1] = (labels[1] + 1) % 3
    elif kind == "loose":
        boxes[1] += np.float32(0.35) * np.tile(boxes[1, 2:] - boxes[1, :2], 2)
    else:
        boxes = np.concatenate((boxes, boxes[1:2] + np.float32(1.5)))
        labels = np.concatenate((labels, labels[1:2]))
    return Record(record.path, record.size, boxes, labels)


def told(scenes: list[tuple[Record, Found]], records: dict[int, Record]) -> list[Suspicion]:
    """What is suspicious where some records are others."""
    every = [records.get(number, record) for number, (record, _) in enumerate(scenes)]
    return suspicions(every, [found for _, found in scenes], 0.5)


def test_right_labels_are_not_suspicious(scenes: list[tuple[Record, Found]]) -> None:
    assert told(scenes, {}) == []


@each("kind", ["missing", "wrong class", "loose", "duplicated"])
def test_each_kind_of_error_is_found_with_what_to_do(
    scenes: list[tuple[Record, Found]], kind: str
) -> None:
    true, _ = scenes[7]
    wrong = changed(true, kind)
    (one,) = told(scenes, {7: wrong})
    assert (one.image, one.kind) == (true.path, kind)
    if kind == "missing":
        assert one.number is None and one.box is None and one.label is None
    else:
        assert one.number is not None
        np.testing.assert_allclose(one.box, wrong.boxes[one.number])
        assert one.label == wrong.labels[one.number] and one.number in (1, 4)
    better = accept(wrong, [one])
    assert sorted(better.labels.tolist()) == sorted(true.labels.tolist())
    assert (overlaps(true.boxes, better.boxes).max(axis=1) > 0.8).all()
    if kind == "duplicated":
        assert one.suggested_box is None and one.suggested_label is None
        return
    assert one.suggested_label == true.labels[1]
    suggested = np.array([one.suggested_box], np.float32)
    assert overlaps(suggested, true.boxes[1:2])[0, 0] > 0.8
    assert one.score > 0.6


@each(("apart", "kinds"), [(24, ["missing"]), (19, [])])
def test_an_object_beside_a_labeled_one_has_no_label_unless_both_are_one_seen_twice(
    scenes: list[tuple[Record, Found]], apart: int, kinds: list[str]
) -> None:
    true, seen = scenes[5]
    square = np.float32((0, 0, 50, 50)) + np.tile(true.boxes[0, :2], 2)
    beside = square + np.float32((apart, 0, apart, 0))  # 24 pixels are an IoU of 0.35, 19 of 0.45
    boxes = np.concatenate((square[None], true.boxes[1:]))
    record = Record(true.path, true.size, boxes, true.labels)
    found = Found(
        np.concatenate((square[None], seen.boxes[1:], beside[None])),
        np.append(seen.labels, seen.labels[0]),
        np.append(seen.scores, np.float32(0.9)),
    )
    others = [pair for pair in scenes if pair[0] is not true]
    records, looked = zip(*others, (record, found), strict=True)
    assert [one.kind for one in suspicions(records, looked, 0.5)] == kinds


def test_all_errors_at_once_are_ranked_and_none_hides_another(
    scenes: list[tuple[Record, Found]],
) -> None:
    kinds = ["missing", "wrong class", "loose", "duplicated"]
    wrong = {number: changed(scenes[number][0], kinds[number % 4]) for number in range(0, 30, 3)}
    found = told(scenes, wrong)
    assert {(int(one.image.stem), one.kind) for one in found} == {
        (number, kinds[number % 4]) for number in wrong
    }
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_a_detector_that_sees_nothing_or_a_set_without_labels_is_no_error(
    scenes: list[tuple[Record, Found]],
) -> None:
    nothing = Found(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))
    records = [record for record, _ in scenes]
    assert suspicions(records, [nothing] * len(records), 0.01) == []
    assert suspicions([], []) == []
    bare = [Record(r.path, r.size, r.boxes[:0], r.labels[:0]) for r in records]
    found = suspicions(bare, [seen for _, seen in scenes])
    assert {one.kind for one in found} == {"missing"}
    assert max(one.score for one in found) == 0  # no box of any score has a label here


def test_a_box_around_a_crowd_is_left_alone(scenes: list[tuple[Record, Found]]) -> None:
    record, _ = scenes[3]
    boxes = np.concatenate((record.boxes, [[0, 0, 200, 200]])).astype(np.float32)
    labels = np.concatenate((record.labels, [0]))
    crowd = np.arange(5) == 4
    assert told(scenes, {3: Record(record.path, record.size, boxes, labels, crowd)}) == []


def test_the_command_lists_draws_and_leaves_the_data_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, monkeypatch)
    data = write_data(tmp_path)
    labels = sorted((tmp_path / "labels").rglob("*.txt"))
    lines = labels[0].read_text().splitlines()
    labels[0].write_text("\n".join(lines[1:]) + "\n")  # the best box of an image has no label
    before = {path: path.read_bytes() for path in labels}
    words = ["data", "errors", f"data={data}", "model=runs/train", "least=0", "device=cpu"]
    assert cli.main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert {path: path.read_bytes() for path in labels} == before
    missing = [one for one in result["suspicions"] if one["kind"] == "missing"]
    assert labels[0].stem in {Path(one["image"]).stem for one in missing}
    with Path("label-errors/errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result["suspicions"]) > 0 and result["cross_fitted"]
    assert cv2.imread("label-errors/errors.jpg") is not None
    assert cli.main(words) == 2
    assert "out=label-errors exists" in capsys.readouterr().err
