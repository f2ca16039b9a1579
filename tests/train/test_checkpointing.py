"""Activation checkpointing: the same bits for less memory."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tiny import make_batch, make_criterion, same, saved, tiny_detector, train, train_config
from torch import nn
from yolodet.detector.models.build import build
from yolodet.detector.models.checkpointing import checkpoint_stages, checkpointed_stages
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.stage_names import stages_named as named
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.parse import parse
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.precision import Precision
from yolodet.detector.precision.probe import count_saved_bytes
from yolodet.detector.train.check import check_train
from yolodet.detector.train.memory import needs_of
from yolodet.detector.train.optim import build_optimizer, choose_optimizer
from yolodet.detector.train.step import TrainStep


def stages_named(model: Detector, wanted: object) -> list[str]:
    return list(named(model, wanted, "checkpointing"))


def stepped(model: Detector, precision: str, steps: int = 1) -> Detector:
    """``model`` after some updates."""
    model.train()
    optimizer = build_optimizer(model, choose_optimizer(TrainConfig()))
    step = TrainStep(
        model, make_criterion(), optimizer, Precision(precision, "cpu", ""), ema=None, clip=10.0
    )
    torch.manual_seed(0)
    for seed in range(steps):
        step(make_batch(2, seed=seed), update=True, eager=True)
    return model


@pytest.mark.parametrize(
    ("name", "precision"), [("yolo26n", "fp32"), ("yolo26n", "bf16"), ("yolox_nano", "fp32")]
)
def test_weights_and_statistics_are_equal_bit_for_bit(name: str, precision: str) -> None:
    torch.manual_seed(0)
    plain = build(name, 2)
    frugal = copy.deepcopy(plain)
    checkpoint_stages(frugal, stages_named(frugal, True))
    before = copy.deepcopy(plain.state_dict())
    assert same(stepped(plain, precision).state_dict(), stepped(frugal, precision).state_dict())
    assert not same(before, plain.state_dict())


def test_other_norms_count_their_batches_once_too() -> None:
    """Those of pruned models are torch's own."""
    models = []
    for names in ((), ("backbone",)):
        torch.manual_seed(0)
        model = tiny_detector()
        for part in list(model.backbone.modules()):
            if isinstance(part, nn.Module) and hasattr(part, "norm"):
                part.norm = nn.BatchNorm2d(part.norm.num_features)
        checkpoint_stages(model, stages_named(model, names))
        models.append(stepped(model, "fp32"))
    assert same(models[0].state_dict(), models[1].state_dict())
    assert models[0].backbone.stem.norm.num_batches_tracked == 1


def test_random_numbers_of_a_stage_are_drawn_again() -> None:
    grads = []
    for names in ((), ("backbone.stem",)):
        torch.manual_seed(0)
        model = tiny_detector()
        model.backbone.stem.act = nn.Dropout(0.5)
        checkpoint_stages(model, stages_named(model, names))
        grads.append(stepped(model, "fp32").state_dict())
    assert same(grads[0], grads[1])


def test_a_frozen_stage_keeps_its_statistics() -> None:
    model = tiny_detector()
    checkpoint_stages(model, stages_named(model, True))
    model.train()
    model.backbone.stem.eval()
    before = copy.deepcopy(model.backbone.stem.state_dict())
    make_criterion()(model(make_batch(2).images), make_batch(2)).total.backward()
    assert same(before, model.backbone.stem.state_dict())


def test_autograd_keeps_less_and_the_estimate_says_so() -> None:
    model = build("yolo26n", 2).train()
    frugal = copy.deepcopy(model)
    checkpoint_stages(frugal, stages_named(frugal, True))
    kept = []
    for each in (model, frugal):
        with count_saved_bytes(each) as saved_bytes:
            each(make_batch(2, size=128).images)
        kept.append(saved_bytes.total)
    assert kept[1] < 0.3 * kept[0]
    fp32 = Precision("fp32", "cpu", "")
    plain, less = (needs_of(each, 128, fp32) for each in (model, frugal))
    assert less.image < 0.7 * plain.image and less.fixed == plain.fixed


def test_copies_are_checkpointed_and_evaluation_is_plain() -> None:
    model = tiny_detector()
    checkpoint_stages(model, ["backbone.stem"])
    twin = copy.deepcopy(model)
    assert checkpointed_stages(twin) == ["backbone.stem"]
    assert twin.backbone.stem.forward.stage is twin.backbone.stem  # type: ignore[union-attr]
    assert list(twin.state_dict()) == list(tiny_detector().state_dict())
    images = make_batch(1).images
    model.eval(), twin.eval()
    with torch.no_grad():
        assert torch.equal(model(images)["one_to_one"].logits, twin(images)["one_to_one"].logits)


@pytest.mark.usefixtures("tiny_models")
def test_a_run_with_it_is_the_run_without(shapes: Path, tmp_path: Path) -> None:
    train(shapes, tmp_path / "a", epochs=1)
    train(shapes, tmp_path / "b", epochs=1, checkpointing=True)
    a, b = (saved(tmp_path / name / "train") for name in "ab")
    assert b["config"].pop("checkpointing") is True and not a["config"].pop("checkpointing")
    for state in (a, b):
        state["meta"]["config"].pop("checkpointing")
    assert same(a, b)


def test_words(shapes: Path, tmp_path: Path) -> None:
    model = tiny_detector()
    stages = list(model.stages)
    for word, expected in (
        ("True", stages), ("False", []), ("head,backbone.stem", ["backbone.stem", *stages[-2:]]),
    ):  # fmt: skip
        config, _ = parse(TrainConfig, {"checkpointing": word})
        assert stages_named(model, config.checkpointing) == expected
    for wrong, hint in (("haed", r"; did you mean 'head'\? It"), ("4", "; it")):
        config, _ = parse(TrainConfig, {"checkpointing": wrong})
        said = rf"no stage '{wrong}'{hint} has backbone\.stem, "
        with pytest.raises(UsageError, match=said):
            stages_named(model, config.checkpointing)
    config, given = train_config(shapes, tmp_path, checkpointing=True, compile=True)
    with pytest.raises(UsageError, match="leave one of them out"):
        check_train(config, given)
