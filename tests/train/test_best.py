"""``best=``: the metric that chooses the best weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import rows_of, train
from yolodet.datasets.formats.record import Record
from yolodet.detector.commands.closing import show_training
from yolodet.detector.evaluate.metrics import DetectionCollector, Metrics
from yolodet.detector.evaluate.postprocess import Detections
from yolodet.detector.options.errors import UsageError
from yolodet.detector.train.best import NAMES, check_class, check_metric, name_of, score_of
from yolodet.detector.train.evaluator import CocoEvaluator

BOXES = np.array([[0, 0, 20, 20], [40, 40, 80, 80]], np.float32)
RECORD = Record(Path("a.jpg"), (100, 100), BOXES, np.array([0, 1]))


def measured() -> Metrics:
    """Class a is found exactly, class b with an overlap of 0.62 and a false alarm before it."""
    boxes = torch.tensor([[0, 0, 20, 20], [0, 50, 30, 90], [40, 40, 80, 65.0]])
    found = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 1]))
    collector = DetectionCollector(["a", "b"])
    collector.add(1, RECORD, found)
    return collector.compute()


def test_each_name_is_one_number_of_the_metrics() -> None:
    metrics = measured()
    scores = {text: score_of(text, metrics) for text in [*NAMES, "class:a", "class:b"]}
    assert scores["class:a"] == pytest.approx(1) and 0 < scores["class:b"] < scores["map"] < 1
    assert scores["map"] == pytest.approx((scores["class:a"] + scores["class:b"]) / 2)
    assert scores["map75"] == pytest.approx(0.5) and scores["map50"] == metrics.map_50 > 0.5
    assert (scores["precision"], scores["recall"]) == (metrics.precision, metrics.recall)
    assert scores["f1"] == metrics.f1
    assert name_of("map50") == "AP50" and name_of("class:a") == "AP of a"


@pytest.mark.parametrize("text", ["fitness", "map_5", "class:", ""])
def test_what_is_no_metric_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected|did you mean"):
        check_metric(text)


def test_a_class_must_exist_and_have_a_box_to_find() -> None:
    check_class("class:b", ["a", "b"], [RECORD])
    with pytest.raises(UsageError, match=r"no class has that name; choose from a, b"):
        check_class("class:person", ["a", "b"], [RECORD])
    with pytest.raises(UsageError, match="no validation image has a box of this class"):
        check_class("class:c", ["a", "b", "c"], [RECORD])


@pytest.mark.usefixtures("tiny_models")
def test_the_best_epoch_has_the_highest_score(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recall says another epoch than AP does, because it is made to."""
    recalls = iter([0.2, 0.6, 0.4, 0.6])  # the last of the best weights, measured again

    def score(text: str, metrics: Metrics) -> float:
        assert text == "recall"
        return next(recalls)

    monkeypatch.setattr("yolodet.detector.train.evaluator.score_of", score)
    results = train(squares, tmp_path, nbs=3, epochs=3, best="recall")
    assert results["best_epoch"] == 2 and results["best_by"] == "recall"
    assert "best epoch: 2 of 3, by recall" in show_training(results)
    assert len(rows_of(tmp_path / "train")) == 3


@pytest.mark.usefixtures("tiny_models")
def test_an_evaluator_of_your_own_has_its_own_score(squares: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave best= out"):
        train(squares, tmp_path, epochs=1, best="f1", evaluator=CocoEvaluator())
