"""What ``model=`` may name: a checkpoint, a run folder, the last state of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import train, write_squares
from yolodet.cli import main
from yolodet.detector.run.folder import BEST, LAST


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch: its best and its last weights are the same."""
    folder = tmp_path_factory.mktemp("words")
    train(write_squares(folder / "squares"), folder / "runs", epochs=1)
    return folder / "runs" / "train"


def test_val_takes_the_run_and_its_last_state_like_its_best_weights(run: Path, capsys) -> None:
    found = []
    for word in (run / BEST, run / LAST, run):
        call = ["val", f"model={word}", "device=cpu", "workers=0", "plots=False", "--json"]
        assert main([*call, f"project={run.parent}"]) == 0
        found.append(json.loads(capsys.readouterr().out)["result"]["metrics"])
    assert found[0] == found[1] == found[2]


def test_predict_and_export_take_the_last_state(run: Path, capsys) -> None:
    image = next((run.parents[1] / "squares" / "images" / "val").iterdir())
    words = [f"model={run / LAST}", "device=cpu"]
    assert main(["predict", str(image), *words, f"project={run.parent}", "save=False"]) == 0
    assert main(["export", *words, "format=torchscript", "imgsz=64"]) == 0
    assert (run / LAST).with_suffix(".torchscript").is_file()


def test_a_run_without_best_weights_stands_for_its_last_ones(run: Path, tmp_path: Path) -> None:
    (tmp_path / LAST).parent.mkdir()
    (tmp_path / LAST).write_bytes((run / LAST).read_bytes())
    (tmp_path / "args.yaml").write_bytes((run / "args.yaml").read_bytes())
    words = [f"model={tmp_path}", "device=cpu", "workers=0", "plots=False"]
    assert main(["val", *words, f"project={tmp_path}"]) == 0
