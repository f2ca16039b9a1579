"""The confidence that det val proposes, in the checkpoint, and what conf=auto makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_bootstrap import NAMES, collected, scene
from test_postprocess import predictions_of
from tiny import same, train
from yolodet.cli import main
from yolodet.detector.evaluate.confidence import propose
from yolodet.detector.evaluate.matching import match
from yolodet.detector.evaluate.metrics import CURVE_IOU, DetectionCollector
from yolodet.detector.evaluate.postprocess import postprocess
from yolodet.detector.evaluate.tables import join_tables
from yolodet.detector.models.predictions import ONE_TO_MANY, ONE_TO_ONE
from yolodet.detector.options.detect import DetectOptions
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.parse import parse
from yolodet.detector.options.predict import PredictConfig
from yolodet.detector.run.folder import BEST
from yolodet.weights.checkpoint import load_weights, read_meta


@pytest.fixture(scope="module")
def measured() -> DetectionCollector:
    rng = np.random.default_rng(3)
    return collected([scene(rng, 0.7) for _ in range(40)])


def counts(collector: DetectionCollector, conf: float, label: int) -> tuple[int, int, int]:
    """Detections, right ones and true boxes of a class, counted one by one."""
    pairs = list(collector.tables())
    found, truth = (join_tables([pair[side] for pair in pairs]) for side in (0, 1))
    owners = match(found, truth, CURVE_IOU)
    used = [
        owner
        for owner, score, own in zip(owners, found.scores, found.labels, strict=True)
        if own == label and score >= np.float32(conf) and (owner < 0 or not truth.crowd[owner])
    ]
    return (
        len(used),
        sum(owner >= 0 for owner in used),
        int(((truth.labels == label) & ~truth.crowd).sum()),
    )


@pytest.mark.parametrize("label", [0, 1])
def test_no_other_confidence_has_a_better_f1(measured: DetectionCollector, label: int) -> None:
    conf = propose(measured.compute())["classes"][label]

    def f1(at: float) -> float:
        found, right, true = counts(measured, at, label)
        return 2 * right / (found + true)

    assert f1(conf) == pytest.approx(max(f1(at) for at in np.linspace(0, 1, 101)), abs=1e-2)
    assert all(f1(conf) >= f1(at) - 1e-9 for at in np.linspace(0, 1, 101).round(2))


@pytest.mark.parametrize("wanted", [0.5, 0.9])
def test_a_wished_precision_is_reached_by_the_lowest_confidence(
    measured: DetectionCollector, wanted: float
) -> None:
    conf = propose(measured.compute(), wanted)["classes"][0]
    found, right, _ = counts(measured, conf, 0)
    assert right / found >= wanted
    for lower in np.arange(0, conf - 1e-6, 0.01):
        found, right, _ = counts(measured, float(lower.round(2)), 0)
        assert right / found < wanted


def test_what_cannot_be_reached_or_has_no_box_has_no_proposal() -> None:
    rng = np.random.default_rng(0)
    told = propose(collected([scene(rng, 0.0) for _ in range(10)]).compute(), 1.0)
    assert told == {"rule": "precision 1", "all": None, "classes": [None] * len(NAMES)}


@pytest.mark.parametrize("branch", [ONE_TO_ONE, ONE_TO_MANY])
def test_each_class_has_its_threshold_before_boxes_compete(branch: str) -> None:
    boxes = [[0.0, 0, 20, 20], [40, 40, 60, 60], [0, 0, 20, 20]]
    outputs = {branch: predictions_of(boxes, [[0.4, 0.0], [0.0, 0.35], [0.0, 0.3]])}
    options = DetectOptions(
        conf=0.2, class_conf=(0.5, 0.2), nms=branch == ONE_TO_MANY, agnostic_nms=True
    )
    (found,) = postprocess(outputs, options)
    assert found.labels.tolist() == [1, 1]  # the box of class 0 is no reason to drop the last


@pytest.mark.usefixtures("tiny_models")
def test_training_and_val_keep_confidences_that_predict_and_exports_use(
    squares: Path, tmp_path: Path, capsys: Any
) -> None:
    words = {"epochs": 12, "warmup_epochs": 0, "mosaic": 0.0, "lr0": 0.02, "name": "run"}
    train(squares, tmp_path, **words)
    best = tmp_path / "run" / BEST
    first = read_meta(best).confidence
    assert first["rule"] == "best F1" and first["all"] == first["classes"][0] > 0
    common = [f"model={best}", "device=cpu", f"project={tmp_path}", "plots=False", "workers=0"]
    before, tensors = best.read_bytes(), load_weights(best)[0]
    assert main(["val", f"data={squares}", "precision=0.01", *common]) == 0
    assert "gives precision 0.01" in capsys.readouterr().out
    assert best.read_bytes() == before  # nobody asked
    assert main(["val", f"data={squares}", "precision=0.01", "save_conf=True", *common]) == 0
    kept = read_meta(best).confidence
    assert kept["rule"] == "precision 0.01" and kept["all"] < first["all"]
    assert same(load_weights(best)[0], tensors)
    capsys.readouterr()

    def lines(model: Path, conf: object) -> list[str]:
        folder = tmp_path / f"p-{model.suffix}-{conf}"
        call = ["predict", str(squares.parent / "images/val"), f"model={model}", f"conf={conf}",
                "device=cpu", f"project={folder}", "save=False", "save_txt=True"]  # fmt: skip
        assert main(call) == 0
        files = sorted((folder / "predict/labels").glob("*.txt"))
        return [file.read_text() for file in files]

    assert lines(best, "auto") == lines(best, kept["all"]) != lines(best, first["all"])
    assert main(["val", f"model={tmp_path / 'run/weights/last.pt'}", "save_conf=True"]) == 2
    assert "save_conf=True writes into" in capsys.readouterr().err


def test_conf_is_a_number_or_auto() -> None:
    assert parse(PredictConfig, {"conf": "Auto"})[0].conf == "auto"
    assert parse(PredictConfig, {"conf": "0.5"})[0].conf == 0.5
    for wrong in ("2", "sure"):
        with pytest.raises(UsageError, match="auto or a number from 0 to 1"):
            parse(PredictConfig, {"conf": wrong})
