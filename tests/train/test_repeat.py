"""``folds=`` and ``seeds=``: ordinary runs in one folder, their mean and spread, and going on."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from tiny import same, train, val
from yolodet.cli import main
from yolodet.detector.options.parse import parse
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.repeat.pipeline import train_all
from yolodet.detector.run.folder import BEST, LAST
from yolodet.detector.run.log import Log
from yolodet.detector.run.observer import Epoch, Observer
from yolodet.detector.run.signals import Interrupted
from yolodet.weights.checkpoint import load_state, load_weights

pytestmark = pytest.mark.usefixtures("tiny_models")

USUAL = {
    "device": "cpu", "imgsz": 64, "batch": 3, "epochs": 2, "workers": 0, "plots": False,
    "report": False, "amp": False, "cache": "ram", "warmup_epochs": 0, "lr0": 0.02,
}  # fmt: skip


def several(data: Path, project: Path, observers: Any = (), **words: Any) -> dict[str, Any]:
    config, given = parse(
        TrainConfig, {**USUAL, "data": str(data), "project": str(project), **words}
    )
    return train_all(config, given, Log(verbose=False), observers=observers)


def weights(folder: Path) -> Any:
    return load_weights(folder / BEST)[0]


def test_each_fold_is_the_run_that_its_words_give(squares: Path, tmp_path: Path) -> None:
    found = several(squares, tmp_path, folds=2, name="both")
    alone = train(squares, tmp_path, **{**USUAL, "val": "2of2", "name": "alone"})
    assert same(weights(tmp_path / "both/fold2"), weights(tmp_path / "alone"))
    aps = [json.loads((tmp_path / f"both/fold{k}/results.json").read_text())["metrics"]["map"]
           for k in (1, 2)]  # fmt: skip
    assert aps[1] == alone["metrics"]["map"]
    assert found["metrics"]["map"] == pytest.approx(mean(aps))
    assert found["spread"]["map"] == pytest.approx(stdev(aps))
    assert json.loads((tmp_path / "both/results.json").read_text())["runs"] == found["runs"]
    assert [row["images"] for row in found["runs"]] == [4, 4]
    listed = [(tmp_path / f"both/fold{k}/split/val.txt").read_text().split() for k in (1, 2)]
    assert not {*listed[0]} & {*listed[1]}
    again = val(model=str(tmp_path / "both/fold2" / BEST), project=str(tmp_path / "val"))
    assert again["metrics"]["map"] == aps[1]  # on the fold that was held out


def test_seeds_are_runs_with_the_next_seeds(squares: Path, tmp_path: Path) -> None:
    found = several(squares, tmp_path, seeds=2, seed=3, name="both", epochs=1)
    train(squares, tmp_path, **{**USUAL, "seed": 4, "name": "alone", "epochs": 1})
    assert [row["name"] for row in found["runs"]] == ["seed3", "seed4"]
    assert same(weights(tmp_path / "both/seed4"), weights(tmp_path / "alone"))


class Stop(Observer):
    """Raises what a signal does, in the second run."""

    def __init__(self) -> None:
        self.runs = 0

    def started(self, run: Any) -> None:
        self.runs += 1

    def epoch(self, epoch: Epoch) -> str | None:
        if self.runs == 2 and epoch.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return None


def test_resume_goes_on_with_the_run_that_was_stopped(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = several(squares, tmp_path, folds=3, name="whole")
    monkeypatch.chdir(squares.parent)
    with pytest.raises(Interrupted, match=r"stopped in fold2; .*resume=.*cut"):
        several(Path(squares.name), tmp_path, observers=[Stop()], folds=3, name="cut")
    assert not (tmp_path / "cut/fold3").exists()
    first = (tmp_path / "cut/fold1" / LAST).stat().st_mtime_ns
    monkeypatch.chdir(tmp_path)  # where data.yaml is no file
    words = {"resume": True, "project": str(tmp_path), "cache": "none"}
    config, given = parse(TrainConfig, words)
    shutil.rmtree(tmp_path / "whole")  # the newest is what is continued
    found = train_all(config, given, Log(verbose=False))
    assert (tmp_path / "cut/fold1" / LAST).stat().st_mtime_ns == first
    assert found["metrics"] == whole["metrics"] and found["spread"] == whole["spread"]
    state = load_state(tmp_path / "cut/fold3" / LAST)
    assert state["config"]["epochs"] == 2 and state["config"]["folds"] is None
    for fold in ("fold2", "fold3"):  # the one that was stopped, and the one that had not begun
        assert load_state(tmp_path / "cut" / fold / LAST)["config"]["cache"] == "none"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["folds=2", "seeds=2"], "not both"),
        (["folds=2", "val=0.2"], "contradicts folds=2"),
        (["folds=2", "device=0,1"], "one GPU"),
        (["folds=9"], "too few for 9 folds"),
        (["folds=1"], "folds"),
    ],
)
def test_what_cannot_be_is_refused(
    squares: Path, tmp_path: Path, words: list[str], message: str, capsys: Any
) -> None:
    assert main(["train", f"data={squares}", f"project={tmp_path}", "imgsz=64", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_command_says_the_mean_and_where_the_weights_are(
    squares: Path, tmp_path: Path, capsys: Any
) -> None:
    words = [f"{name}={value}" for name, value in {**USUAL, "epochs": 1}.items()]
    call = ["train", f"data={squares}", f"project={tmp_path}", "folds=2", *words]
    assert main(call) == 0
    out, err = capsys.readouterr()
    assert "mean of 2 folds" in out and str(tmp_path / "train/fold2" / BEST) in out
    assert "spread" in err and "spread" in (tmp_path / "train/log.txt").read_text()
    assert main(["train", f"resume={tmp_path / 'train'}", "epochs=5"]) == 2
    assert "cannot change epochs" in capsys.readouterr().err
