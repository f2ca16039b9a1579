"""What det config says of a run's length is what the run then does, and saying it does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from rows import each
from tiny import make_trainer, use_tiny_detector, write_tiny_data
from torch import nn
from yolodet.cli import main
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.train import lengths
from yolodet.detector.train.schedule import lr_factor


@each(
    "words",
    [
        {"batch": 3, "epochs": 40},
        {"batch": 8, "epochs": 20},  # fewer images than a batch
        {"batch": 2, "epochs": 10, "nbs": 6},
        {"batch": 2, "epochs": 9, "warmup_epochs": 2.0, "ema_decay": 0.9, "close_mosaic": 4},
    ],
)
def test_the_values_are_those_that_a_run_is_made_with(
    words: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_detector(monkeypatch)
    data = write_tiny_data(tmp_path / "data", train=6, val=1)
    run = make_trainer(data, tmp_path, **{"nbs": None, "mosaic": 1.0, **words}).run
    momentum = next(m.momentum for m in run.model.modules() if isinstance(m, nn.BatchNorm2d))
    closing = run.train_loader.dataset.augment.close_epoch
    found = lengths.what_follows("data", 6, TrainConfig(**words))
    assert found | {"steps": str(run.length.steps), "warm-up steps": str(run.warmup)} == found
    assert found["plain epochs at the end"] == str(words["epochs"] - closing)
    assert (found["EMA decay"], found["tau"]) == (f"{run.ema.decay:.4f}", f"{run.ema.tau:.0f}")
    assert found["batch-norm momentum"] == f"{momentum:.4f}"


@each("run", lengths.examples())
def test_the_learning_rate_falls_where_the_flat_part_is_said_to_end(run: dict[str, str]) -> None:
    flat, steps, warmup = (int(run[key]) for key in ("flat until step", "steps", "warm-up steps"))
    curve = {"steps": steps, "warmup": warmup, "final": 0.01, "shape": "flat_cosine"}
    assert lr_factor(flat, **curve) == 1.0 > lr_factor(flat + 2, **curve)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    """The comments at the end of ``det config train``, as quantity -> value."""
    assert main(["config", "train", *words]) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["model"] == "yolo26n"
    rows = (line[4:].rsplit(maxsplit=1) for line in text.splitlines() if line.startswith("#   "))
    return {quantity.strip(): value for quantity, value in rows}


def test_det_config_counts_the_images_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_tiny_data(tmp_path / "data", train=12)
    words = (f"data={data}", "epochs=8", "batch=2", "fraction=0.5", "cos_lr=True")
    found = shown(capsys, *words)
    assert (found["images"], found["steps"], found["batch"]) == ("6", "8", "2")
    assert found["flat until step"] == found["warm-up steps"]


def test_det_config_neither_draws_nor_fetches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DET_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert shown(capsys, "data=shapes.yaml")["images"] == "64"
    for data, words in (("coco8.yaml", "once coco8.yaml is on disk"), ("no.yaml", "is not known")):
        assert main(["config", "train", f"data={data}"]) == 0
        assert words in capsys.readouterr().out.splitlines()[-1]
    assert not [*tmp_path.iterdir()]


def test_det_config_shows_small_and_large_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    assert lengths.as_comments(lengths.examples()).rstrip() in capsys.readouterr().out
