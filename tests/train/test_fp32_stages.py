"""Runs in which one stage computes in float32 and the rest in half precision."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import (
    IN_BF16,
    NAN,
    assert_all_finite,
    essence,
    hooked,
    make_batch,
    make_criterion,
    make_trainer,
    needs_bf16,
    overflowing,
    rows_of,
    same,
    saved,
    tiny_detector,
    train,
    train_config,
    val,
)
from yolodet.detector.checkpoints.load import OpenModel
from yolodet.detector.checkpoints.restore import restore
from yolodet.detector.models.float32_stages import float32_stages
from yolodet.detector.options.parse import parse
from yolodet.detector.options.val import ValConfig
from yolodet.detector.precision.ladder import resumed_precision
from yolodet.detector.precision.precision import Precision
from yolodet.detector.precision.sanity import MAX_LOSS_ERROR
from yolodet.detector.run.folder import BEST, LAST
from yolodet.detector.run.log import Log
from yolodet.detector.train.check import idle_words
from yolodet.detector.train.decide import safer_precision
from yolodet.detector.train.guard import Failure, find_failure, worst
from yolodet.detector.train.position import Position
from yolodet.detector.train.trainer import Trainer
from yolodet.weights.checkpoint import CheckpointError, load_state, load_weights, save_weights

STAGE4, STAGE5 = "backbone.stage4", "backbone.stage5"


@pytest.fixture(autouse=True)
def small(tiny_models: None) -> None: ...


def losses(folder: Path) -> list[float]:
    """The loss of each epoch."""
    return [
        sum(float(value) for name, value in row.items() if name.startswith("train/"))
        for row in rows_of(folder)
    ]


def overflow_at(trainer: Trainer, epoch: int, batch: int) -> None:
    """Scale the weights of stage 4 up before that batch of the run."""
    learn = trainer._train_batch

    def late(*arguments: Any) -> None:
        if (trainer.at.epoch, trainer.at.batch) == (epoch, batch) and not trainer.guard.failures:
            overflowing(trainer.run.model.backbone.stage4)
        learn(*arguments)

    trainer._train_batch = late  # type: ignore[method-assign]


# ---------------------------------------------------------------- in the middle of a run


def test_a_stage_that_overflows_in_mid_run_goes_to_float32_and_the_loss_is_that_of_fp32(
    shapes: Path, tmp_path: Path
) -> None:
    curves = []
    for name in ("fp32", "fp16"):
        trainer = make_trainer(shapes, tmp_path / name, name, ("fp32",), epochs=3, val=False)
        overflow_at(trainer, 1, 0)
        trainer.fit()
        curves.append(losses(tmp_path / name))
    assert trainer.precision.label == f"fp16 with {STAGE4} in fp32" and trainer.rungs == ["fp32"]
    assert [f.fp32_stages for f in trainer.guard.failures] == [(STAGE4,)]
    assert trainer.log.warnings[0].endswith(f"continuing in fp16 with {STAGE4} in fp32")
    for exact, mixed in zip(*curves, strict=True):
        assert mixed == pytest.approx(exact, rel=MAX_LOSS_ERROR)
    assert_all_finite(tmp_path / "fp16")


def test_a_second_stage_is_added_and_the_whole_falls_only_then(
    shapes: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(shapes, tmp_path, "bf16", ("fp32",), epochs=3, val=False)
    for name, epoch in ((STAGE5, 0), (STAGE4, 1), ("neck", 2)):
        part = trainer.run.model.get_submodule(name)
        hooked(
            part.conv if name != "neck" else part,
            lambda x: tuple(y * NAN for y in x) if isinstance(x, tuple) else x * NAN,
            lambda epoch=epoch: IN_BF16() and trainer.at.epoch >= epoch,
        )
    trainer.fit()
    said = [failure.fp32_stages for failure in trainer.guard.failures]
    assert said == [(STAGE5,), (STAGE5, STAGE4), ()]
    assert trainer.precision.label == "fp32" and float32_stages(trainer.run.model) == ()
    assert f"continuing in bf16 with {STAGE4} and {STAGE5} in fp32" in trainer.log.warnings[1]
    assert trainer.log.warnings[2].endswith("continuing in fp32")


def test_gradients_of_one_stage_that_are_not_finite_put_it_there_too() -> None:
    torch.manual_seed(0)
    model = tiny_detector().train()

    def explode(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y.register_hook(lambda gradient: gradient * NAN)
        return y

    hooked(model.backbone.stage5.conv, explode, IN_BF16)
    failure = find_failure(
        model, make_criterion(), [make_batch(2)], Precision("bf16", "cpu", ""), Position(), "bad"
    )
    assert failure.layer is None and STAGE5 in failure.fp32_stages
    assert STAGE4 not in failure.fp32_stages


def test_ranks_agree_on_stages_only_where_they_help_all() -> None:
    own = Failure(0, 0, "bf16", "box", None, [], helped=True, cause="x", fp32_stages=("a",))
    other = replace(own, fp32_stages=("b",))
    quiet = replace(own, guilty=False, fp32_stages=())
    assert worst([own, other, quiet]).fp32_stages == ("a", "b")
    assert worst([own, replace(own, fp32_stages=())]).fp32_stages == ()
    assert worst([quiet]).fp32_stages == ()
    now = Precision("fp16", "cpu", "", ("c",))
    again = safer_precision(now, ["bf16"], replace(own, fp32_stages=("c", "a")), ("a", "b", "c"))
    assert (again.name, again.fp32_stages) == ("fp16", ("a", "c"))
    assert safer_precision(now, ["bf16"], quiet, ()).fp32_stages == ("c",)
    assert safer_precision(now, ["fp32"], quiet, ()).fp32_stages == ()


# ---------------------------------------------------------------- what is kept and follows


@needs_bf16
def test_checkpoints_keep_the_stages_and_resume_val_and_the_report_follow(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"amp": "bf16", "amp_fp32": "head.one_to_one,backbone.stem", "amp_check": False}
    stages = ("backbone.stem", "head.one_to_one")
    results = train(shapes, tmp_path / "a", **words)
    folder = tmp_path / "a" / "train"
    said = "bf16 with backbone.stem and head.one_to_one in fp32"
    assert results["precision"]["fp32_stages"] == list(stages)
    assert json.loads((folder / "amp.json").read_text())["line"].startswith(f"AMP: {said} on cpu")
    assert said in (folder / "log.txt").read_text() and said in (folder / "report.html").read_text()
    tensors, meta = load_weights(folder / BEST)
    assert meta.fp32_stages == stages and meta.schema == 3
    assert load_state(folder / LAST)["fp32_stages"] == list(stages)
    model, _ = restore(folder / BEST)
    assert float32_stages(model) == stages
    config, given = parse(ValConfig, {"device": "cpu"})
    loaded = OpenModel(folder / BEST, Log(verbose=False)).use(config, given)
    assert loaded.line(nms=False).endswith(said)
    again = val(model=str(folder / BEST), data=str(shapes), project=str(tmp_path))
    assert again["metrics"]["map"] == results["metrics"]["map"]
    bad = tmp_path / "bad.safetensors"
    save_weights(bad, tensors, replace(meta, fp32_stages=("backbone.no",)))
    with pytest.raises(CheckpointError, match=r"names 'backbone\.no', and yolo26n has no such"):
        restore(bad)


def test_a_resumed_run_is_the_one_that_never_stopped_bit_for_bit(
    shapes: Path, tmp_path: Path
) -> None:
    whole = make_trainer(shapes, tmp_path / "a", "bf16", ("fp32",), epochs=3, val=False)
    overflow = lambda: IN_BF16()  # noqa: E731
    hooked(whole.run.model.backbone.stage4.conv, lambda x: x * NAN, overflow)
    whole.fit()
    first = make_trainer(shapes, tmp_path / "b", "bf16", ("fp32",), epochs=3, val=False)
    hooked(first.run.model.backbone.stage4.conv, lambda x: x * NAN, overflow)
    first.observers.epoch = lambda done: "enough" if done.epoch == 1 else None  # type: ignore
    first.fit()
    state = load_state(tmp_path / "b" / LAST)
    assert state["fp32_stages"] == [STAGE4] and state["position"]["epoch"] == 1
    decision = resumed_precision(
        state["precision"], torch.device("cpu"), state["fp32_stages"], force=True
    )
    assert decision.precision.fp32_stages == (STAGE4,)
    second = make_trainer(shapes, tmp_path / "b", "bf16", ("fp32",), epochs=3, val=False)
    hooked(second.run.model.backbone.stage4.conv, lambda x: x * NAN, overflow)
    second.precision = decision.precision
    second.step.use(decision.precision)
    second.load_state_dict(state)
    second.fit()
    assert same(essence(whole), essence(second))
    assert len(second.guard.failures) == 1  # that of the first part


def test_a_device_without_the_precision_goes_on_in_fp32() -> None:
    decision = resumed_precision("fp16", torch.device("cpu"), (STAGE4,))
    lacks = "fp16" in decision.objections
    assert decision.precision.fp32_stages == (() if lacks else (STAGE4,))
    assert decision.precision.name == ("fp32" if lacks else "fp16")


def test_without_half_precision_the_word_is_idle(shapes: Path, tmp_path: Path) -> None:
    config, given = train_config(shapes, tmp_path, amp=False, amp_fp32="head")
    assert idle_words(config, given) == [
        "amp_fp32=head has no effect: amp=False trains all stages in fp32"
    ]


def test_a_run_that_the_check_refuses_whole_trains_with_one_stage_in_float32(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command to results.json: fp16 is refused because of one stage, and used without."""
    monkeypatch.setattr("tiny.tiny_detector", broken_detector)
    results = train(
        shapes, tmp_path, amp="fp16", amp_force=True, epochs=1, pretrained=False, val=False
    )
    folder = tmp_path / "train"
    assert results["precision"]["name"] == "fp16"
    assert results["precision"]["fp32_stages"] == [STAGE4]
    written = json.loads((folder / "amp.json").read_text())
    assert [t["fp32_stages"] for t in written["trials"]] == [[], [], [STAGE4]]
    assert f"without: the output of {STAGE4} is not finite" in written["line"]
    assert saved(folder)["meta"]["fp32_stages"] == (STAGE4,)
    assert rows_of(folder)[0]["precision"] == "fp16"


def broken_detector(num_classes: int = 2, name: str = "yolo26n") -> Any:
    """The tiny detector with a stage that overflows in fp16."""
    torch.manual_seed(0)
    model = tiny_detector(num_classes, name)
    overflowing(model.backbone.stage4)
    return model
