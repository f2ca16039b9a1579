"""A model that knows the answer measures 1 through the letterbox, and is left as it was."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from yolodet.datasets.formats.record import Record
from yolodet.datasets.nouns import Batch, Letterbox
from yolodet.detector.evaluate import evaluator
from yolodet.detector.evaluate.class_names import GroundTruth
from yolodet.detector.evaluate.coco import image_numbers
from yolodet.detector.evaluate.evaluator import EvaluationError, evaluate
from yolodet.detector.evaluate.postprocess import BranchError
from yolodet.detector.models.detector_like import ForwardOptions
from yolodet.detector.models.predictions import ONE_TO_MANY, ONE_TO_ONE, Predictions
from yolodet.detector.options.detect import DetectOptions

SIZE = 64
NAMES = ["a", "b", "c"]
SIZES = [(64, 64), (50, 200), (333, 120), (20, 30), (128, 64)]


def make_records(seed: int = 0) -> list[Record]:
    """Images of all shapes; the second has no boxes."""
    rng = np.random.default_rng(seed)
    records = []
    for i, (height, width) in enumerate(SIZES):
        count = 0 if i == 1 else 4
        low = rng.random((count, 2)) * (width, height) * 0.6
        high = low + 2 + rng.random((count, 2)) * (width, height) * 0.3
        boxes = np.concatenate((low, high), 1).astype(np.float32)
        labels = rng.integers(0, 3, count)
        records.append(Record(Path(f"{i}.jpg"), (height, width), boxes, labels))
    return records


class FakeLoader:
    """Letterboxed batches of records; the first pixel of an image names its record."""

    def __init__(self, records, batch_size=2, letterboxed=True):
        self.records, self.batch_size, self.letterboxed = records, batch_size, letterboxed

    def __len__(self):
        return math.ceil(len(self.records) / self.batch_size)

    def epoch(self, epoch: int):
        for start in range(0, len(self.records), self.batch_size):
            yield self.batch(list(range(start, min(start + self.batch_size, len(self.records)))))

    def batch(self, indices):
        images = torch.zeros(len(indices), SIZE, SIZE, 3, dtype=torch.uint8)
        boxes, labels, owners, letterboxes = [], [], [], []
        for place, index in enumerate(indices):
            record = self.records[index]
            images[place, 0, 0, 0] = index
            letterboxes.append(letterbox_of(record))
            boxes.append(to_input(record))
            labels.append(torch.from_numpy(record.labels))
            owners.append(torch.full((len(record.labels),), place))
        return Batch(
            images.permute(0, 3, 1, 2), torch.cat(boxes), torch.cat(labels), torch.cat(owners),
            indices, [self.records[i].path for i in indices],
            [self.records[i].size for i in indices],
            letterboxes if self.letterboxed else [None] * len(indices),
        )  # fmt: skip


def letterbox_of(record: Record) -> Letterbox:
    height, width = record.size
    gain = SIZE / max(height, width)
    return Letterbox(gain, (SIZE - width * gain) / 2, (SIZE - height * gain) / 2)


def to_input(record: Record) -> torch.Tensor:
    box = letterbox_of(record)
    return torch.from_numpy(record.boxes) * box.gain + torch.tensor([box.pad_x, box.pad_y] * 2)


class Oracle(nn.Module):
    """Says the true boxes of the record an image names; one_to_many says each three times."""

    def __init__(self, records, branches=(ONE_TO_MANY, ONE_TO_ONE)):
        super().__init__()
        self.records, self.branches = records, branches
        self.norm, self.frozen = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.seen: list[dict] = []

    def forward(self, images, branches):
        self.seen.append({
            "branches": branches, "dtype": images.dtype, "training": self.norm.training,
            "gradients": torch.is_grad_enabled(), "autocast": torch.is_autocast_enabled("cpu"),
            "layout": images.is_contiguous(memory_format=torch.channels_last),
        })  # fmt: skip
        assert len(branches) == 1
        copies = 3 if branches[0] == ONE_TO_MANY else 1
        return {branches[0]: self.answer(images[:, 0, 0, 0].tolist(), copies)}

    def answer(self, indices, copies) -> Predictions:
        anchors = 4 * copies
        points = torch.full((anchors, 2), SIZE / 2.0)
        logits = torch.full((len(indices), anchors, 3), -12.0)
        distances = torch.ones(len(indices), anchors, 4)
        for i, index in enumerate(indices):
            boxes = to_input(self.records[int(index)]).repeat(copies, 1)
            labels = torch.from_numpy(self.records[int(index)].labels).repeat(copies)
            sides = (points[0] - boxes[:, :2], boxes[:, 2:] - points[0])
            distances[i, : len(boxes)] = torch.cat(sides, 1)
            logits[i, torch.arange(len(labels)), labels] = 2.0
        return Predictions(logits, distances, points, torch.ones(anchors))


def run(model, loader, records, **changes):
    """Measure; changes: of DetectOptions, ForwardOptions, or ``on_progress``."""
    progress = changes.pop("on_progress", None)
    of_forward = {n: changes.pop(n) for n in ("autocast", "channels_last") if n in changes}
    detect = DetectOptions(**{"conf": 0.001, **changes})
    forward = ForwardOptions(torch.device("cpu"), **of_forward)
    return evaluate(model, loader, GroundTruth(records, NAMES), detect, forward, progress)


@pytest.mark.parametrize("nms", [False, True])
def test_the_truth_measures_1_through_the_letterbox_of_images_of_any_shape(nms):
    records = make_records()
    metrics = run(Oracle(records), FakeLoader(records), records, nms=nms).metrics
    assert metrics.map == pytest.approx(1.0) and metrics.f1 == 1.0
    assert metrics.num_images == 5 and metrics.num_boxes == 16


def test_without_nms_the_repeated_boxes_of_the_other_branch_cost_precision():
    """The one-to-many branch names each object three times: NMS is what makes it right."""
    records = make_records()
    metrics = run(Oracle(records), FakeLoader(records), records, nms=True, iou=1.0).metrics
    assert metrics.precision == pytest.approx(1 / 3)


def test_boxes_are_collected_in_pixels_of_the_original_image():
    records = make_records()
    collector = run(Oracle(records), FakeLoader(records), records).collector
    rows = collector.coco_results()
    assert [r["image_id"] for r in rows] == [0] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    found = sorted(r["bbox"] for r in rows if r["image_id"] == 2 and r["score"] > 0.5)
    boxes = records[2].boxes
    truth = np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1)
    np.testing.assert_allclose(found, sorted(truth.tolist()), atol=1e-3)


def test_a_single_head_goes_through_nms_and_a_missing_branch_is_refused():
    records = make_records()
    single = Oracle(records, branches=(ONE_TO_MANY,))
    assert run(single, FakeLoader(records), records, nms=False).metrics.precision == 1.0
    with pytest.raises(BranchError):
        run(Oracle(records, (ONE_TO_ONE,)), FakeLoader(records), records, nms=True)


def test_the_model_sees_uint8_in_evaluation_mode_without_gradients_in_the_precision_asked_for():
    records = make_records()
    model = Oracle(records).train()
    run(model, FakeLoader(records), records, autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    run(model, FakeLoader(records), records, channels_last=False)
    first, plain = model.seen[0], model.seen[-1]
    assert first["branches"] == (ONE_TO_ONE,) and first["dtype"] == torch.uint8
    assert not first["training"] and not first["gradients"]
    assert (first["autocast"], first["layout"]) == (True, True)
    assert (plain["autocast"], plain["layout"]) == (False, False)


def test_every_module_gets_its_own_mode_back_also_after_an_error():
    records = make_records()
    model = Oracle(records).train()
    model.frozen.eval()
    run(model, FakeLoader(records), records)
    assert (model.training, model.norm.training, model.frozen.training) == (True, True, False)
    model.answer = None
    with pytest.raises(TypeError):
        run(model, FakeLoader(records), records)
    assert (model.training, model.norm.training, model.frozen.training) == (True, True, False)


def test_progress_is_reported_batch_by_batch_and_speed_by_stage(monkeypatch):
    records, calls = make_records(), []
    clock = iter(range(1000))
    monkeypatch.setattr(evaluator.time, "perf_counter", lambda: next(clock) / 1000)
    evaluation = run(Oracle(records), FakeLoader(records), records,
                     on_progress=lambda done, total: calls.append((done, total)))  # fmt: skip
    assert calls == [(1, 3), (2, 3), (3, 3)]
    # every stage took one tick of 1 ms: 2 batches after the first, 3 images
    expected = {stage: pytest.approx(2 / 3) for stage in ("preprocess", "inference", "postprocess")}
    assert evaluation.speed == expected


def test_the_device_is_synchronised_before_each_reading_of_the_clock(monkeypatch):
    records, waits = make_records(), []
    monkeypatch.setattr(evaluator, "synchronize", waits.append)
    run(Oracle(records), FakeLoader(records), records)
    assert waits == [torch.device("cpu")] * 9  # 3 batches x 3 stages


def test_the_first_pictures_are_kept_with_truth_and_detections_in_input_pixels(monkeypatch):
    monkeypatch.setattr(evaluator, "MAX_PICTURES", 3)
    records = make_records()
    pictures = run(Oracle(records), FakeLoader(records), records).pictures
    assert [int(p.image[0, 0, 0]) for p in pictures] == [0, 1, 2]
    assert pictures[0].image.shape == (SIZE, SIZE, 3)
    np.testing.assert_allclose(pictures[2].boxes, to_input(records[2]).numpy())
    found = pictures[2].detections.above(0.5)
    assert sorted(found.labels.tolist()) == sorted(pictures[2].labels.tolist())
    low, high = pictures[2].boxes.min(0), pictures[2].boxes.max(0)
    np.testing.assert_allclose(found.boxes.min(0).values, low, atol=1e-3)
    np.testing.assert_allclose(found.boxes.max(0).values, high, atol=1e-3)


def test_label_files_hold_every_detection_as_shares_of_its_image(tmp_path):
    records = make_records()
    twins = [*records[:4], replace(records[4], path=Path("other/0.JPG"))]
    evaluation = run(Oracle(twins), FakeLoader(twins), twins)
    files = evaluation.write_labels(tmp_path / "labels")
    assert [f.name for f in files] == ["0.txt", "1.txt", "2.txt", "3.txt", "0-2.txt"]
    assert sorted(files) == sorted((tmp_path / "labels").iterdir())
    assert files[1].read_text() == ""
    rows = np.loadtxt(files[2])
    height, width = records[2].size
    corners = np.concatenate((rows[:, 1:3] - rows[:, 3:5] / 2, rows[:, 1:3] + rows[:, 3:5] / 2), 1)
    truth = records[2].boxes / (width, height, width, height)
    order, wanted = np.lexsort(corners.T), np.lexsort(truth.T)
    np.testing.assert_allclose(corners[order], truth[wanted], atol=1e-5)
    assert rows[order, 0].tolist() == records[2].labels[wanted].tolist()
    assert rows[:, 5] == pytest.approx(0.880797)


def test_a_batch_size_changes_nothing():
    records = make_records()
    results = [run(Oracle(records), FakeLoader(records, size), records) for size in (1, 3, 5)]
    rows = [evaluation.collector.coco_results() for evaluation in results]
    assert rows[0] == rows[1] == rows[2]


def test_a_failing_validation_raises():
    records = make_records()
    with pytest.raises(EvaluationError, match="none of the images could be measured"):
        run(Oracle(records), FakeLoader([]), records)
    with pytest.raises(EvaluationError, match=r"0\.jpg: .* augmented"):
        run(Oracle(records), FakeLoader(records, letterboxed=False), records)

    @contextmanager
    def broken():
        raise RuntimeError("no such precision")
        yield

    with pytest.raises(RuntimeError, match="no such precision"):
        run(Oracle(records), FakeLoader(records), records, autocast=broken)


def test_a_results_file_numbers_images_by_their_names_where_those_are_numbers() -> None:
    names = ["a/000139.jpg", "b/7.png"]
    assert image_numbers([Path(name) for name in names]) == [139, 7]
    for names in (["a/7.png", "b/07.jpg"], ["7.png", "x.png"], ["1.5.png", "2.png"]):
        assert image_numbers([Path(name) for name in names]) == [0, 1]
