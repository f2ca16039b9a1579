"""An evaluator from outside: a run that is measured by something else than COCO's AP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import rows_of, train
from torch import nn
from yolodet.detector.train.evaluator import Measured
from yolodet.weights.checkpoint import read_meta

pytestmark = pytest.mark.usefixtures("tiny_models")


class SmallestWeights:
    """The first epoch has the smallest weights when they grow: the score falls, below zero."""

    name = "smallness"
    columns = ("smallness",)
    titles = {"small": "smallness"}  # noqa: RUF012

    def __call__(self, model: nn.Module, *_: Any) -> Measured:
        self.calls = getattr(self, "calls", 0) + 1
        score = -float(self.calls) - next(model.parameters()).detach().abs().max().item()
        return Measured(score, {"smallness": score}, {"smallness": score})


def test_another_evaluator_chooses_the_best_epoch_and_fills_the_files(
    squares: Path, tmp_path: Path
) -> None:
    evaluator = SmallestWeights()
    results = train(squares, tmp_path, epochs=9, patience=2, plots=True, evaluator=evaluator)
    folder = tmp_path / "train"
    assert results["best_epoch"] == 1 and results["epochs"] == 3  # patience follows the score
    scores = [float(row["metrics/smallness"]) for row in rows_of(folder)]
    assert scores == sorted(scores, reverse=True) and "metrics/map" not in rows_of(folder)[0]
    assert read_meta(folder / "weights/best.safetensors").metrics["smallness"] == pytest.approx(
        scores[0], rel=1e-5
    )
    assert set(results["metrics"]) == {"smallness"}
    text = (folder / "log.txt").read_text()
    assert "stopping: no better smallness than" in text and "small" in text
    assert (folder / "results.png").exists()
