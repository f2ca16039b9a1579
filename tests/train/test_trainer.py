"""Training mechanics, on a tiny detector that learns to find squares: what a run leaves behind,
and what each option of it does."""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch
import yaml
from tiny import (
    assert_all_finite,
    make_trainer,
    rows_of,
    same,
    saved,
    train,
    train_config,
    val,
    write_squares,
)
from yolodet.detector import api
from yolodet.detector.checkpoints.restore import restore
from yolodet.detector.commands.closing import show_training
from yolodet.detector.options.parse import parse
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.sanity import SanityCheck
from yolodet.detector.run import hardware
from yolodet.detector.run.folder import BEST, LAST
from yolodet.detector.run.log import Log
from yolodet.detector.run.observer import Observer
from yolodet.detector.train import pipeline, trainer
from yolodet.detector.train.budget import REPORT_SECONDS, Budget
from yolodet.detector.train.evaluator import CocoEvaluator, Measured
from yolodet.detector.train.schedule import lr_factor
from yolodet.detector.train.trainer import Trainer
from yolodet.weights.checkpoint import load_state, load_weights, read_meta

pytestmark = pytest.mark.usefixtures("tiny_models")

PLAIN = {"mosaic": 0.0, "scale": 0.0, "translate": 0.0}
"""No augmentation that moves boxes: squares are learned in a few steps."""


# ---------------------------------------------------------------- what a run leaves behind


def test_a_run_leaves_everything_that_is_promised(squares: Path, tmp_path: Path) -> None:
    results = train(squares, tmp_path / "runs", nbs=3, epochs=2, plots=True, **PLAIN)
    folder = tmp_path / "runs" / "train"
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    pictures = {"train_batch.jpg", "labels.png", "pr_curve.png", "confidence_curves.png",
                "confusion_matrix.png", "val_batch.jpg", "results.png"}  # fmt: skip
    assert found >= pictures | {"args.yaml", "results.csv", "results.json", "amp.json", "log.txt",
                                "weights/last.pt", "weights/best.safetensors"}  # fmt: skip
    assert not [name for name in found if "partial" in name]
    for name in pictures:
        assert cv2.imread(str(folder / name)) is not None, name
    written = json.loads((folder / "results.json").read_text())
    assert results.pop("folder") == str(folder) and results.pop("best") == str(folder / BEST)
    assert results.pop("last") == str(folder / LAST)
    assert Path(results.pop("example")).parent == squares.parent / "images" / "val"
    assert json.dumps(results, default=list) == json.dumps(written)
    assert written["metrics"]["map"] == pytest.approx(read_meta(folder / BEST).metrics["map"])
    assert json.loads((folder / "amp.json").read_text())["precision"]["name"] == "fp32"
    assert "AMP disabled by amp=False; training in fp32" in (folder / "log.txt").read_text()


def test_args_yaml_starts_the_same_run_again(squares: Path, tmp_path: Path) -> None:
    train(squares, tmp_path / "a", nbs=3, epochs=1, lr0=0.02, **PLAIN)
    path = tmp_path / "a" / "train" / "args.yaml"
    assert yaml.safe_load(path.read_text())["lr0"] == 0.02
    config, given = parse(TrainConfig, {"cfg": path, "project": tmp_path / "b"})
    pipeline.train(config, given, Log(verbose=False))
    assert same(saved(tmp_path / "a" / "train"), saved(tmp_path / "b" / "train"))


def test_every_epoch_is_a_row_with_losses_rate_precision_and_metrics(
    squares: Path, tmp_path: Path
) -> None:
    train(squares, tmp_path, nbs=4, batch=4, epochs=4, lr0=0.02, warmup_epochs=1.0, lrf=0.1)
    rows = rows_of(tmp_path / "train")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert list(rows[0]) == [
        "epoch", "time", "train/box_loss", "train/cls_loss", "train/dfl_loss", "lr",
        "images_per_s", "precision", "loss_scale", "skipped", "val/box_loss", "val/cls_loss",
        "val/dfl_loss", "metrics/map", "metrics/map_50", "metrics/map_75", "metrics/precision",
        "metrics/recall",
    ]  # fmt: skip
    assert {(r["precision"], r["loss_scale"], r["skipped"]) for r in rows} == {("fp32", "1", "0")}
    assert all(float(row[f"val/{part}_loss"]) > 0 for row in rows for part in ("box", "cls", "dfl"))
    assert all(float(row["train/cls_loss"]) > 0 < float(row["images_per_s"]) for row in rows)
    times = [float(row["time"]) for row in rows]
    assert times == sorted(times) and times[0] > 0
    rates = [  # of the last of two steps of each epoch
        0.02 * lr_factor(step, steps=8, warmup=2, final=0.1, shape="flat_cosine")
        for step in (1, 3, 5, 7)
    ]
    assert [float(row["lr"]) for row in rows] == pytest.approx(rates, rel=1e-4)


@pytest.mark.parametrize("amp", ["fp32", "bf16"])
def test_val_gives_the_number_that_was_logged(squares: Path, tmp_path: Path, amp: str) -> None:
    words = {"amp": amp, "amp_check": False, "amp_force": amp == "bf16"}
    results = train(squares, tmp_path, nbs=4, batch=4, epochs=15, **PLAIN, **words)
    best = results["metrics"]
    assert best["map"] > 0.05 and results["precision"]["name"] == amp
    again = val(model=results["best"], project=str(tmp_path))
    if amp == "fp32" or again["precision"] == "bf16":  # not every CPU has it
        for name in ("map", "map_50", "precision", "recall"):
            assert again["metrics"][name] == pytest.approx(best[name], abs=1e-3), name
    assert read_meta(Path(results["best"])).precision == amp
    rows = rows_of(tmp_path / "train")
    logged = float(rows[results["best_epoch"] - 1]["metrics/map"])
    assert logged == pytest.approx(best["map"], abs=1e-3)
    assert logged == max(float(row["metrics/map"]) for row in rows)


def test_the_best_checkpoint_is_that_of_the_newest_best_epoch(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps(monkeypatch, [0.1, 0.4, 0.2, 0.4, 0.3])
    saved_best: list[tuple[int, Any]] = []

    class Watch(Observer):
        def saved(self, path: Path, epoch: int) -> None:
            if path.name == BEST.name:
                saved_best.append((epoch, load_weights(path)[0]))

    results = train(squares, tmp_path, nbs=4, batch=4, epochs=4, observers=[Watch()])
    assert results["best_epoch"] == 4 and [epoch for epoch, _ in saved_best] == [1, 2, 4]
    tensors, meta = load_weights(tmp_path / "train" / BEST)
    assert same(tensors, saved_best[-1][1])
    assert (meta.epoch, meta.metrics["map"]) == (4, 0.4)


def test_a_tie_is_the_newest_best_and_no_improvement(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that have learned longest are saved, and patience still ends a run stuck at 0."""
    maps(monkeypatch, [0.0, 0.0, 0.0, 0.0, 0.0])
    results = train(squares, tmp_path, epochs=4, patience=2)
    assert results["epochs"] == results["best_epoch"] == 3


def test_without_a_box_to_find_the_newest_average_is_the_best(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data")
    for file in (data.parent / "labels" / "val").iterdir():
        file.write_text("")
    detector = api.YOLO(verbose=False)
    config, given = train_config(data, tmp_path / "runs", patience=1)
    results = detector.train(**{name: getattr(config, name) for name in given})
    folder = tmp_path / "runs" / "train"
    assert detector.ckpt_path == results["best"] == str(folder / BEST)
    assert read_meta(folder / BEST).epoch == results["best_epoch"] == results["epochs"] == 2
    assert load_state(folder / LAST)["position"]["best_map"] == -math.inf
    assert "best weights (epoch 2)" in (folder / "log.txt").read_text()


def test_no_ap_after_an_ap_is_no_better(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps(monkeypatch, [math.nan, 0.0, math.nan, 0.0])
    results = train(squares, tmp_path, epochs=3)
    assert results["best_epoch"] == read_meta(tmp_path / "train" / BEST).epoch == 2


def maps(monkeypatch: pytest.MonkeyPatch, values: Sequence[float]) -> None:
    """Let evaluations say these APs, one after the other."""
    left = list(values)
    measure = CocoEvaluator.__call__

    def measured(self: CocoEvaluator, *arguments: Any) -> Measured:
        ap = left.pop(0)
        found = measure(self, *arguments)
        columns, metrics = {**found.columns, "map": ap}, {**found.metrics, "map": ap}
        return replace(found, score=ap, columns=columns, metrics=metrics)

    monkeypatch.setattr(CocoEvaluator, "__call__", measured)


# ---------------------------------------------------------------- the same again


def test_one_seed_is_one_run_and_another_seed_another(shapes: Path, tmp_path: Path) -> None:
    states = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.rand(len(states))  # whatever happened in the process before
        train(shapes, tmp_path / name, seed=seed, epochs=1)
        states.append(saved(tmp_path / name / "train"))
    assert same(states[0], states[1])
    assert not same(states[0]["model"], states[2]["model"])


def test_the_number_of_loader_processes_changes_nothing(shapes: Path, tmp_path: Path) -> None:
    for workers in (0, 2):
        results = train(shapes, tmp_path / str(workers), workers=workers, nbs=6)
    assert same(saved(tmp_path / "0" / "train"), saved(tmp_path / "2" / "train"))
    assert multiprocessing.active_children() == []
    val(model=results["best"], project=str(tmp_path), workers=2, batch=1)
    assert multiprocessing.active_children() == []


def test_loader_processes_end_with_a_run_that_fails(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to the garbage collector, each would hold up the end by five seconds."""
    alive = []

    def fail(self: Trainer, *arguments: Any) -> None:
        alive.append(len(multiprocessing.active_children()))
        raise OSError

    monkeypatch.setattr(Trainer, "_train_batch", fail)
    with pytest.raises(OSError):
        train(shapes, tmp_path, workers=2)
    assert alive == [2] and multiprocessing.active_children() == []


@pytest.mark.parametrize("batch", [2, 4])
def test_small_batches_add_up_to_the_nominal_one(squares: Path, tmp_path: Path, batch: int) -> None:
    """Equal numbers of updates, at equal rates, of equally long gradients."""
    lengths: dict[int, list[float]] = {}
    for size in (8, batch):
        trainer = make_trainer(squares, tmp_path / str(size), batch=size, nbs=8, clip=0.0, lr0=1e-9)
        trainer.run.model.eval()
        trainer._training_mode = lambda: None  # type: ignore[method-assign]  # no batch statistics
        lengths[size] = []
        trainer.step.optimizer.register_step_pre_hook(
            lambda *_, t=trainer, n=size: lengths[n].append(
                torch.stack([p.grad.norm() for p in t.step.parameters]).norm().item()
            )
        )
        trainer.fit()
        assert trainer.run.accumulate == 8 // size and trainer.run.length.steps == 2
    assert lengths[batch] == pytest.approx(lengths[8], rel=0.35) and len(lengths[8]) == 2


# ---------------------------------------------------------------- precision


def test_amp_true_checks_decides_and_trains_in_what_it_says(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(hardware, "onednn_computes", lambda name: True)
    ms = {"fp32": 30.0, "bf16": 20.0}
    monkeypatch.setattr(SanityCheck, "_time", lambda *_: ms)
    results = train(squares, tmp_path, amp=True, nbs=4, batch=4)
    folder = tmp_path / "train"
    assert results["precision"]["name"] == "bf16"
    assert results["precision"]["reason"] == "passed the sanity check"
    written = json.loads((folder / "amp.json").read_text())
    assert written["line"].startswith("AMP: bf16 on cpu, 1.5x as fast, 0.")
    assert [trial["precision"] for trial in written["trials"]] == ["fp32", "bf16"]
    assert {row["precision"] for row in rows_of(folder)} == {"bf16"}
    assert read_meta(folder / BEST).precision == "bf16"
    log = (folder / "log.txt").read_text()
    assert "AMP sanity check" in log and written["line"] in log
    assert val(model=results["best"], project=str(tmp_path))["precision"] == "bf16"


def test_the_check_does_not_change_the_run(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was checked and left in fp32 is the one that was never checked."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(hardware, "onednn_computes", lambda name: True)
    monkeypatch.setattr(SanityCheck, "_time", lambda *_: {"fp32": 20.0, "bf16": 20.0})
    states = []
    for amp in ("true", "false"):
        train(squares, tmp_path / amp, amp=amp)
        states.append(saved(tmp_path / amp / "train"))
        for place in (states[-1]["config"], states[-1]["meta"]["config"]):
            place.pop("amp")
    assert same(*states)


# ---------------------------------------------------------------- length


def test_patience_ends_a_run_that_gets_no_better(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps(monkeypatch, [0.1, 0.3, 0.2, 0.3, 0.9])
    results = train(squares, tmp_path, epochs=50, patience=2)
    assert results["epochs"] == results["best_epoch"] == 4
    text = (tmp_path / "train" / "log.txt").read_text()
    assert "stopping: no better AP than 0.300 of epoch 2 for 2 epochs" in text


def test_a_time_budget_is_kept_and_the_rate_comes_down_in_it(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches and what follows take ten seconds each here: 95 seconds are three epochs."""
    clock, epochs = itertools.count(0, 10), itertools.count(1)
    left = lambda budget: 95 + REPORT_SECONDS - 30 * next(epochs)  # noqa: E731
    monkeypatch.setattr(Budget, "left", left)
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    results = train(squares, tmp_path, time=95 / 3600, batch=4, nbs=4, val=False, lr0=0.1)
    assert results["epochs"] == 3 and results["train_seconds"] == 90
    rows = rows_of(tmp_path / "train")
    assert [float(row["time"]) for row in rows] == [30, 60, 90]
    assert float(rows[-1]["lr"]) < 0.5 * float(rows[1]["lr"])
    assert results["best_epoch"] == 3  # validated when it turned out to be the last
    assert "(95 s): about 3 epochs" in (tmp_path / "train" / "log.txt").read_text()


def test_a_budget_for_less_than_an_epoch_is_one_epoch(squares: Path, tmp_path: Path) -> None:
    assert train(squares, tmp_path, time=1e-9)["epochs"] == 1


def test_val_false_validates_after_the_last_epoch_only(squares: Path, tmp_path: Path) -> None:
    results = train(squares, tmp_path, epochs=3, val=False)
    rows = rows_of(tmp_path / "train")
    assert [row["metrics/map"] == "nan" for row in rows] == [True, True, False]
    assert results["best_epoch"] == 3 and (tmp_path / "train" / BEST).exists()


# ---------------------------------------------------------------- checkpoints


def test_weights_can_be_saved_in_half_the_bytes(squares: Path, tmp_path: Path) -> None:
    files = []
    for dtype in ("fp32", "fp16"):
        project = tmp_path / dtype
        result = train(squares, project, epochs=2, save_dtype=dtype)
        files.append(Path(result["best"]))
    (full, _), (half, _) = (load_weights(file) for file in files)
    matrices = [name for name, tensor in full.items() if tensor.ndim > 1]
    assert matrices and all(torch.equal(half[name], full[name].half()) for name in matrices)
    assert all(torch.equal(half[name], full[name]) for name in full.keys() - set(matrices))
    assert files[1].stat().st_size < files[0].stat().st_size
    model, _ = restore(files[1])
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_save_period_keeps_a_checkpoint_every_so_many_epochs(squares: Path, tmp_path: Path) -> None:
    train(squares, tmp_path, epochs=5, save_period=2)
    names = {path.name for path in (tmp_path / "train" / "weights").iterdir()}
    assert names == {"last.pt", "best.safetensors", "epoch2.safetensors", "epoch4.safetensors"}
    for epoch in (2, 4):
        _, meta = restore(tmp_path / "train" / "weights" / f"epoch{epoch}.safetensors")
        assert meta.epoch == epoch


def test_save_false_writes_no_weights_and_measures_all_the_same(
    squares: Path, tmp_path: Path
) -> None:
    results = train(squares, tmp_path, save=False, epochs=1)
    assert not (tmp_path / "train" / "weights").exists()
    assert results["metrics"]["num_images"] == 4
    assert (results["best"], results["last"]) == (None, None)
    assert "weights:" not in show_training(results)
    assert "last weights (epoch 1)" in (tmp_path / "train" / "log.txt").read_text()


def test_save_false_over_an_older_run_does_not_measure_that_ones_weights(
    shapes: Path, squares: Path, tmp_path: Path
) -> None:
    """They would not even fit: ten classes there, one here."""
    older = train(shapes, tmp_path, epochs=1)
    before = Path(older["best"]).read_bytes()
    results = train(squares, tmp_path, epochs=1, save=False, exist_ok=True)
    assert results["folder"] == older["folder"] and results["best"] is None
    assert [row["name"] for row in results["metrics"]["per_class"]] == ["square"]
    assert Path(older["best"]).read_bytes() == before


def test_without_average_the_weights_themselves_are_the_best(squares: Path, tmp_path: Path) -> None:
    train(squares, tmp_path, ema=False, epochs=1)
    state = load_state(tmp_path / "train" / LAST)
    assert state["ema"] is None
    assert same(load_weights(tmp_path / "train" / BEST)[0], dict(state["model"]))


def test_with_average_it_is_the_average_that_is_the_best(squares: Path, tmp_path: Path) -> None:
    train(squares, tmp_path, epochs=1)
    state = load_state(tmp_path / "train" / LAST)
    best = load_weights(tmp_path / "train" / BEST)[0]
    assert same(best, dict(state["ema"]["average"])) and not same(best, dict(state["model"]))


def test_a_checkpoint_says_nothing_of_the_machine(squares: Path, tmp_path: Path) -> None:
    train(squares, tmp_path, epochs=1)
    header = (tmp_path / "train" / BEST).read_bytes()[:20000]
    assert str(tmp_path).encode() not in header
    assert_all_finite(tmp_path / "train")
