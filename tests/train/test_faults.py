"""Every way in which numbers stop being finite, injected into real runs of a tiny detector, ends
well: skipped, undone and done again in another precision, or stopped with a report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import (
    IN_BF16,
    IN_FP16,
    STEPS,
    assert_all_finite,
    essence,
    fail_in_bf16,
    holding,
    hooked,
    image_at,
    make_trainer,
    poison,
    rows_of,
    same,
    snapshot,
    watch,
)
from torch import Tensor
from yolodet.datasets.nouns import Batch
from yolodet.detector.precision.precision import Precision
from yolodet.detector.run.folder import BEST, LAST, RunError
from yolodet.detector.train import guard, pipeline
from yolodet.detector.train.evaluator import CocoEvaluator, Measured
from yolodet.detector.train.run_memory import RunMemory
from yolodet.weights.checkpoint import load_state, load_weights, save_weights


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tiny_models: None) -> None:
    monkeypatch.setattr(guard, "READ_EVERY", 3)


# ---------------------------------------------------------------- one bad image


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_nan_in_the_loss_of_one_image_is_skipped_with_a_warning(
    shapes: Path, tmp_path: Path, precision: str
) -> None:
    trainer = make_trainer(shapes, tmp_path, precision, ("fp32",))
    name = image_at(trainer, 2)
    poison(trainer, holding(name))
    trainer.fit()
    assert trainer.at.skipped == 2 and trainer.at.updates == 2 * STEPS - 2  # once an epoch
    assert trainer.precision.name == precision  # fp32 could not do better
    first = trainer.log.warnings[0]
    assert first.startswith("batch skipped: epoch 1, batch 2: the loss is not finite in")
    assert f"in {precision}, box" in first and name in first and len(trainer.log.warnings) == 2
    assert_all_finite(tmp_path)
    rows = rows_of(tmp_path)
    assert [row["skipped"] for row in rows] == ["1", "2"]
    assert all(0 < float(row["train/box_loss"]) < 100 for row in rows)


def test_a_skipped_update_leaves_weights_average_and_schedule_where_they_were(
    shapes: Path, tmp_path: Path
) -> None:
    """The run is the one that never had the batch, but for the place in the epoch."""
    states, rates = [], []
    for bad in (True, False):
        trainer = make_trainer(shapes, tmp_path / str(bad), epochs=1)
        name, learn = image_at(trainer, 2), trainer._train_batch
        if bad:
            poison(trainer, holding(name))

        def without(batch: Batch, steps: int, bad: bool = bad, name: str = name) -> None:
            if bad or name not in {path.name for path in batch.paths}:
                learn(batch, steps)  # noqa: B023  called in this round only
                rates.append(trainer.run.optimizer.param_groups[0]["lr"])  # noqa: B023

        trainer._train_batch = without  # type: ignore[method-assign]
        trainer.fit()
        state = essence(trainer)
        states.append({key: state[key] for key in ("model", "ema", "optimizer")})
    assert same(states[0], states[1])
    assert rates[:STEPS] == [rates[4], rates[5], rates[6], rates[6]]


@pytest.mark.parametrize("place", [0, 1])
def test_of_accumulated_batches_the_bad_one_is_named(
    shapes: Path, tmp_path: Path, place: int
) -> None:
    trainer = make_trainer(shapes, tmp_path, epochs=1, nbs=6)
    assert trainer.run.accumulate == 2
    batches = list(trainer.run.train_loader.epoch(0))
    bad = batches[2 + place]
    poison(trainer, holding(bad.paths[0].name))
    trainer.fit()
    (warning,) = trainer.log.warnings
    assert f"batch {2 + place}: the loss is not finite in fp32, box" in warning
    assert all(path.name in warning for path in bad.paths)
    assert not any(path.name in warning for path in batches[3 - place].paths)
    assert (trainer.at.updates, trainer.at.skipped) == (1, 1)
    assert 0 < float(rows_of(tmp_path)[0]["train/box_loss"]) < 100
    assert_all_finite(tmp_path)


# ---------------------------------------------------------------- data or learning rate


@pytest.mark.parametrize(
    ("precision", "words"), [("fp32", {}), ("bf16", {}), ("fp32", {"nbs": 6})], ids=str
)
def test_nan_that_stays_ends_the_run_with_the_report_and_sound_checkpoints(
    shapes: Path, tmp_path: Path, precision: str, words: dict[str, Any]
) -> None:
    trainer = make_trainer(shapes, tmp_path, precision, ("fp32",), epochs=9, save_steps=1, **words)
    poison(trainer, lambda batch: (trainer.at.epoch, trainer.at.batch) >= (1, 2))
    with pytest.raises(RunError) as stop:
        trainer.fit()
    assert stop.value.exit_code == 1
    report = str(stop.value)
    assert report.startswith("training has diverged, also in fp32: epoch ")
    assert f"the loss is not finite in {precision}, box" in report and ".jpg" in report
    assert "smaller lr0" in report
    assert len(trainer.guard.failures) == guard.MOST_BAD_BATCHES
    assert trainer.at.epoch in (1, 2)
    assert_all_finite(tmp_path)
    assert len(rows_of(tmp_path)) == trainer.at.epoch


def test_a_learning_rate_that_is_far_too_large_ends_the_run_too(
    shapes: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(
        shapes, tmp_path, epochs=30, optimizer="SGD", lr0=1e30, clip=0.0, warmup_epochs=0.0,
        val=False,
    )  # fmt: skip
    trainer._finish_epoch = lambda: setattr(trainer.at, "batch", 0)  # type: ignore[method-assign]
    with pytest.raises(RunError, match="smaller lr0"):
        trainer.fit()
    assert all(bool(p.isfinite().all()) for p in trainer.run.model.parameters())


# ---------------------------------------------------------------- too few bits


def test_overflow_of_fp16_in_one_stage_puts_that_stage_into_fp32_and_names_the_layer(
    shapes: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(shapes, tmp_path, "fp16", ("bf16", "fp32"))
    tried = watch(trainer)
    hooked(trainer.run.model.backbone.stage4.conv, lambda x: x * 1e6, IN_FP16)
    trainer.fit()
    assert trainer.precision.label == "fp16 with backbone.stage4 in fp32"
    assert trainer.rungs == ["bf16", "fp32"]
    reason = trainer.precision.reason
    assert "epoch 1, batch 0: the loss is not finite in fp16" in reason
    assert "first at the output of backbone.stage4.conv" in reason
    said = "; rolled back to batch 0, continuing in fp16 with backbone.stage4 in fp32"
    assert reason + said in trainer.log.warnings[0] and len(trainer.log.warnings) == 1
    assert [name for *_, name in tried] == (1 + 2 * STEPS) * ["fp16"]
    assert trainer.step.scaler.get_scale() == 64.0 and trainer.at.skipped == 0
    assert_all_finite(tmp_path)


def test_what_overflows_in_both_half_precisions_ends_in_fp32(shapes: Path, tmp_path: Path) -> None:
    trainer = make_trainer(shapes, tmp_path, "fp16", ("bf16", "fp32"))
    half = lambda: IN_FP16() or IN_BF16()  # noqa: E731
    hooked(trainer.run.model.neck, lambda f: tuple(x * float("inf") for x in f), half)
    trainer.fit()
    assert trainer.precision.name == "fp32" and trainer.rungs == []
    assert [failure.precision for failure in trainer.guard.failures] == ["fp16", "bf16"]
    assert all(f.layer == "neck" for f in trainer.guard.failures)
    assert all(f.fp32_stages == () for f in trainer.guard.failures)
    assert_all_finite(tmp_path)


def test_gradients_that_overflow_at_every_scale_are_given_up_in_the_end(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss stays finite, so it takes a row of skipped updates to see that it does not end."""
    monkeypatch.setattr(guard, "MOST_SKIPS", 5)
    trainer = make_trainer(shapes, tmp_path, "fp16", ("fp32",), val=False)
    before = snapshot(trainer.state_dict())
    tried = watch(trainer)

    def explode(x: Tensor) -> Tensor:
        y = x.clone()
        y.register_hook(lambda gradient: gradient * float("inf"))
        return y

    stage = trainer.run.model.backbone.stage4
    hooked(stage, explode, lambda: IN_FP16() and torch.is_grad_enabled())
    restored = []
    go_back = trainer.load_state_dict
    trainer.load_state_dict = lambda state: (  # type: ignore[method-assign]
        go_back(state), restored.append(snapshot(trainer.run.model.state_dict()))
    )  # fmt: skip
    trainer.fit()
    assert [name for *_, name in tried] == 5 * ["fp16"] + 2 * STEPS * ["fp32"]
    assert same(dict(restored[0]), dict(before["model"]))
    assert "5 updates in a row were skipped in fp16, gradient in the backward pass" in (
        trainer.precision.reason
    )
    assert trainer.precision.name == "fp32" and trainer.at.updates == 2 * STEPS
    assert_all_finite(tmp_path)


def test_a_single_overflow_is_the_scalers_business(shapes: Path, tmp_path: Path) -> None:
    trainer = make_trainer(shapes, tmp_path, "fp16", ("bf16", "fp32"))
    trainer.step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**17)
    trainer.fit()
    assert 0 < trainer.at.skipped < 8 and trainer.at.updates == 2 * STEPS - trainer.at.skipped
    assert trainer.step.scaler.get_scale() == 2.0 ** (17 - trainer.at.skipped)
    assert trainer.precision.name == "fp16" and trainer.log.warnings == []
    assert float(rows_of(tmp_path)[-1]["loss_scale"]) == trainer.step.scaler.get_scale()


def test_a_failure_of_bf16_alone_goes_back_to_the_last_good_state_bit_for_bit(
    shapes: Path, tmp_path: Path
) -> None:
    """The run is the one that changed to fp32 at that state."""
    trainer = make_trainer(shapes, tmp_path / "a", "bf16", ("fp32",), epochs=3)
    kept: list[Any] = []
    save = trainer.guard._save
    trainer.guard._save = lambda: kept.append(snapshot(save())) or save()
    go_back, returned = trainer.load_state_dict, []

    def check(state: Any) -> None:
        go_back(state)
        now = snapshot(trainer.state_dict())
        assert len(now.pop("failures")) == 1 + len(kept[-1].pop("failures"))  # all but that
        assert same(now, kept[-1])
        returned.append((now["position"]["epoch"], now["position"]["batch"]))

    trainer.load_state_dict = check  # type: ignore[method-assign]
    fail_in_bf16(trainer, 2, 1)
    tried = watch(trainer)
    trainer.fit()
    assert returned == [(2, 0)]  # kept when the epoch before it was written
    assert [name for *_, name in tried] == (2 * STEPS + 2) * ["bf16"] + STEPS * ["fp32"]

    other = make_trainer(shapes, tmp_path / "b", "bf16", (), epochs=3)
    learn = other._train_batch

    def change(batch: Batch, steps: int) -> None:
        if (other.at.epoch, other.at.batch) == returned[0]:
            other.precision = Precision("fp32", "cpu", "")
            other.step.use(other.precision)
        learn(batch, steps)

    other._train_batch = change  # type: ignore[method-assign]
    other.fit()
    mine, theirs = essence(trainer), essence(other)
    assert len(mine.pop("failures")) == 1 and theirs.pop("failures") == []
    assert same(mine, theirs)


def test_results_tell_of_the_fall(shapes: Path, tmp_path: Path) -> None:
    trainer = make_trainer(shapes, tmp_path, "bf16", ("fp32",))
    fail_in_bf16(trainer, 1, 2)
    trainer.fit()
    pipeline.finish(trainer, RunMemory(trainer.run))
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["precision"]["name"] == "fp32"
    reason = results["precision"]["reason"]
    assert reason.startswith("epoch 2, batch 2: the loss is not finite in bf16")
    assert "output of neck" in reason and results["failures"] == [reason]
    assert [row["precision"] for row in rows_of(tmp_path)] == ["bf16", "fp32"]
    assert reason in (tmp_path / "log.txt").read_text()
    assert_all_finite(tmp_path)


def test_a_run_that_goes_on_remembers_its_failures(shapes: Path, tmp_path: Path) -> None:
    trainer = make_trainer(shapes, tmp_path / "a", "bf16", ("fp32",))
    fail_in_bf16(trainer, 1, 2)
    trainer.fit()
    assert len(trainer.guard.failures) == 1
    other = make_trainer(shapes, tmp_path / "b", "fp32", ())
    other.load_state_dict(load_state(tmp_path / "a" / LAST))
    assert other.guard.failures == trainer.guard.failures


def test_best_is_measured_in_the_precision_it_was_chosen_in(shapes: Path, tmp_path: Path) -> None:
    """After a fall the run is in fp32, but `det val` takes what the checkpoint says."""
    trainer = make_trainer(shapes, tmp_path, "bf16", ("fp32",))
    fail_in_bf16(trainer, 1, 2)
    trainer.fit()
    assert trainer.precision.name == "fp32"
    best = tmp_path / BEST
    tensors, meta = load_weights(best)
    save_weights(best, tensors, replace(meta, precision="bf16"))  # of epoch 1, say
    seen = []

    class Watched(CocoEvaluator):
        def __call__(self, model: Any, precision: Precision, *others: Any) -> Measured:
            seen.append(precision.name)
            return super().__call__(model, precision, *others)

    trainer.evaluator = Watched()
    pipeline.finish(trainer, RunMemory(trainer.run))
    assert seen == ["bf16"]


def test_without_a_safer_precision_the_run_ends_with_a_report(shapes: Path, tmp_path: Path) -> None:
    trainer = make_trainer(shapes, tmp_path, "bf16", ())
    fail_in_bf16(trainer, 1, 1)
    with pytest.raises(RunError, match=r"no precision is left to fall back to: epoch 2, batch 1"):
        trainer.fit()
    assert_all_finite(tmp_path)
