"""What a run leaves that was stopped by a signal, or ended before its last epoch."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from rows import each
from tiny import STEPS, train
from yolodet.detector.run.folder import RunFinished
from yolodet.detector.run.observer import Observer, Step
from yolodet.detector.run.signals import Interrupted

pytestmark = pytest.mark.usefixtures("tiny_models")


class CtrlC(Observer):
    """Presses it after so many steps."""

    def __init__(self, after: int) -> None:
        self.left = after

    def step(self, step: Step) -> None:
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)


def test_a_stopped_run_has_the_pictures_of_its_best_epoch(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(shapes, tmp_path, plots=True, nbs=3, observers=[CtrlC(STEPS + 2)])
    folder = tmp_path / "train"
    names = {path.name for path in folder.iterdir()}
    assert names >= {"results.png", "pr_curve.png", "confusion_matrix.png", "val_batch.jpg"}
    report = json.loads((folder / "results.json").read_text())
    assert report["best_epoch"] == report["epochs"] == 1 and report["stopped"]
    assert report["metrics"]["num_images"] > 0


@each(
    ("words", "extends"),
    [
        ({"time": 1e-9}, "time=2e-09"),
        ({"patience": 1, "epochs": 9, "lr0": 1e-9}, "epochs=9 with another patience="),
    ],
)
def test_a_run_that_ended_before_its_epochs_has_finished(
    shapes: Path, tmp_path: Path, words: dict[str, Any], extends: str
) -> None:
    assert train(shapes, tmp_path, **words)["epochs"] < 9
    with pytest.raises(RunFinished, match=f"nothing to resume; {extends} extends it"):
        train(shapes, tmp_path, resume=tmp_path / "train")
