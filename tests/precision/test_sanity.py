"""The AMP sanity check: right hardware passes, wrong hardware is found out, nothing is changed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from rows import each
from tiny import casts_to, hooked, make_batch, make_criterion, same, snapshot, tiny_detector
from torch import Tensor, nn
from yolodet.detector.losses import detection
from yolodet.detector.losses.assign import Assigner, Assignment, assign
from yolodet.detector.losses.detection import DetectionLoss, Gains, LossOutput
from yolodet.detector.models.build import build
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.head import Head
from yolodet.detector.precision import sanity
from yolodet.detector.precision.precision import Precision
from yolodet.detector.precision.probe import cosine, count_saved_bytes, recording, replay
from yolodet.detector.precision.sanity import SanityCheck, Trial

BF16, FP16 = casts_to(torch.bfloat16), casts_to(torch.float16)


class Scaled(DetectionLoss):
    """A loss that is ``factor`` times as large."""

    def __init__(self, factor: float) -> None:
        super().__init__(Gains())
        self.factor = factor

    def __call__(self, outputs: Any, batch: Any) -> LossOutput:
        output = super().__call__(outputs, batch)
        return replace(output, total=output.total * self.factor)


def seeded_detector() -> Detector:
    torch.manual_seed(0)
    return tiny_detector()


def check(
    model: Detector, *names: str, criterion: DetectionLoss | None = None, count: int = 4
) -> dict[str, Trial]:
    """Trials by precision."""
    wanted = dict.fromkeys(names, ())
    trials = SanityCheck(model, criterion or make_criterion(), make_batch(count)).run(wanted)
    assert [trial.precision for trial in trials] == ["fp32", *names]
    return {trial.precision: trial for trial in trials}


# ---------------------------------------------------------------- right hardware


@pytest.mark.parametrize("name", ["yolo26n", "yolo11n", "yolox_nano"])
def test_bf16_passes_for_a_fresh_detector_and_every_stage_is_looked_at(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, 2).to(memory_format=torch.channels_last)
    trials = check(model, "bf16")
    assert [trial.problem for trial in trials.values()] == [None, None]
    found = trials["bf16"]
    assert found.stages.keys() == model.stages.keys()
    assert 0 < found.loss_error < 0.1 and 0 < found.head_loss_error < 0.005
    assert 0 < found.box_error < 0.25
    assert all(0 < stage.output < 0.05 and stage.cosine > 0.98 for stage in found.stages.values())
    assert found.step_ms > 0 and found.scale == 1.0


def test_half_precision_keeps_about_half_the_bytes_for_backward() -> None:
    trials = check(seeded_detector(), "bf16", "fp16", count=16)
    whole = trials["fp32"].saved_bytes
    assert 0.4 < trials["bf16"].saved_bytes / whole < 0.6
    assert trials["fp16"].saved_bytes == trials["bf16"].saved_bytes


def test_fp32_against_itself_is_exact_in_every_stage() -> None:
    """What the instruments find is then an error of the precision, not theirs."""
    torch.manual_seed(0)
    model, batch = build("yolo26n", 2).train(), make_batch(2)
    with recording(model.stages) as records:
        make_criterion()(model(batch.images), batch).total.backward()
    for name, stage in model.stages.items():
        records[name].take_gradients(stage)
        found = replay(stage, records[name], Precision("fp32", "cpu", ""))
        assert found.output == 0 and found.lost == 0, name
        assert found.cosine == pytest.approx(1, abs=1e-4) and found.count > 0, name


def test_all_passes_share_the_positives_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(assigners: list[Assigner], *arguments: Any) -> list[Assignment]:
        calls.extend(assigners)
        return assign(assigners, *arguments)

    monkeypatch.setattr(detection, "assign", counted)
    criterion = make_criterion()
    check(seeded_detector(), "bf16", "fp16", criterion=criterion)
    assert calls == [criterion.assigners["one_to_many"], criterion.assigners["one_to_one"]]


def test_the_bytes_kept_for_backward_are_counted_once_and_without_parameters() -> None:
    model = nn.Linear(8, 4)
    x = torch.ones(16, 8)
    with count_saved_bytes(model) as saved:
        y = model(x)  # keeps x
        (y * y).exp()  # keeps y once, and the result of exp
    assert saved.total == 4 * (16 * 8 + 16 * 4 + 16 * 4)


@each(
    ("a", "b", "expected"),
    [
        ([1, 0], [2, 0], 1),
        ([1, 0], [0, 3], 0),
        ([1, 1], [-1, -1], -1),
        ([0, 0], [0, 0], 1),
        ([0, 0], [1, 0], 0),
        ([float("nan"), 0], [1, 0], 0),
        ([float("inf"), 0], [1, 0], 0),
        ([3e-30, 0], [2e-30, 0], 1),  # the product of the norms is no float32
        ([3e30, 0], [2e30, 0], 0),  # nor is such a gradient of any use
    ],
)
def test_cosine_of_gradients(a: list[float], b: list[float], expected: float) -> None:
    found = cosine(torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32))
    assert found == pytest.approx(expected, abs=1e-6)


# ---------------------------------------------------------------- no trace


def test_the_check_leaves_no_trace() -> None:
    model, criterion, batch = seeded_detector(), make_criterion(), make_batch(4)
    model.train()
    model.stages["backbone.stem"].eval().requires_grad_(False)
    criterion.progress = 0.25
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    torch.rand(3), random.random(), np.random.rand()

    def everything() -> Any:
        return snapshot(
            {
                "tensors": dict(model.state_dict()),
                "modes": [module.training for module in model.modules()],
                "learning": [p.requires_grad for p in model.parameters()],
                "gradients": [p.grad for p in model.parameters()],
                "hooks": [len(module._forward_hooks) for module in model.modules()],
                "criterion": (criterion.frozen, criterion.progress),
                "batch": (batch.images, batch.boxes, batch.labels, batch.batch_index),
                "torch": torch.get_rng_state(),
                "python": random.getstate(),
                "numpy": np.random.get_state()[1].tolist(),
                "autocast": torch.is_autocast_enabled("cpu"),
                "threads": torch.get_num_threads(),
            }
        )

    before = everything()
    assert before["gradients"][0] is None and before["criterion"] == (None, 0.25)
    SanityCheck(model, criterion, batch).run({"bf16": (), "fp16": ("backbone.stage4",)})
    after = everything()
    assert [key for key in before if not same(before[key], after[key])] == []


def test_the_check_leaves_no_trace_when_it_fails() -> None:
    model = seeded_detector().train()
    before, seed = snapshot(model.state_dict()), torch.get_rng_state()

    def give_up(output: Tensor) -> Tensor:
        torch.rand(7)
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = hooked(model.stages["backbone.stage5"], give_up, BF16)
    with pytest.raises(torch.OutOfMemoryError):
        check(model, "bf16")
    hook.remove()
    assert same(before, model.state_dict()) and torch.equal(seed, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())


# ---------------------------------------------------------------- wrong hardware


def noise(output: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    spread = output.float().std()
    return output + (0.5 * spread * torch.randn(output.shape, generator=generator)).to(output.dtype)


@each(
    ("change", "words"),
    [
        (noise, "the output of backbone.stage4 is off by"),
        (torch.zeros_like, "the output of backbone.stage4 is off by 100.0% (at most 10%)"),
        (lambda x: x * float("nan"), "the output of backbone.stage4 is not finite"),
        (lambda x: x.detach() + 0 * x, "the gradient of backbone.stage4 has another direction"),
    ],
)
def test_a_device_that_returns_garbage_is_found_out_and_the_stage_named(
    change: Callable[[Tensor], Tensor], words: str
) -> None:
    model = seeded_detector()
    hooked(model.stages["backbone.stage4"], change, BF16)
    trials = check(model, "bf16")
    assert trials["fp32"].problem is None
    assert words in (trials["bf16"].problem or "passed")


def test_a_device_whose_autocast_adds_noise_everywhere_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true_conv = nn.Conv2d._conv_forward

    def noisy(self: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = true_conv(self, x, weight, bias)
        return noise(y) if torch.is_autocast_enabled("cpu") else y

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", noisy)
    assert "backbone.stem" in (check(seeded_detector(), "bf16")["bf16"].problem or "passed")


def test_what_is_wrong_only_as_a_whole_is_found_by_the_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A device that goes wrong between the stages: each of them is right by itself."""
    true_forward = Head.forward

    def surer(self: Head, name: str, features: Any) -> Any:
        output = true_forward(self, name, features)
        return replace(output, logits=output.logits + 1) if BF16() else output

    monkeypatch.setattr(Head, "forward", surer)
    problem = check(seeded_detector(), "bf16")["bf16"].problem or "passed"
    assert "the loss on equal features differs by" in problem


def test_overflow_of_fp16_at_one_layer_is_a_problem_and_none_of_bf16() -> None:
    model = seeded_detector()
    hooked(model.backbone.stage4.conv, lambda x: x * 1e6, lambda: True)
    trials = check(model, "bf16", "fp16")
    assert trials["bf16"].problem is None
    assert trials["fp16"].problem == "the output of backbone.stage4 is not finite"


def test_a_gradient_that_underflows_without_scaling_survives_with_it() -> None:
    trials = check(seeded_detector(), "bf16", "fp16", criterion=Scaled(1e-5))
    fp16 = trials["fp16"]
    assert fp16.unscaled_lost > 0.5 > sanity.MAX_LOST > fp16.lost
    assert fp16.scale == sanity.FIRST_SCALE and fp16.problem is None
    assert trials["bf16"].unscaled_lost == trials["bf16"].lost < 0.001


def test_a_gradient_that_underflows_even_with_scaling_is_a_problem() -> None:
    fp16 = check(seeded_detector(), "fp16", criterion=Scaled(1e-11))["fp16"]
    assert fp16.lost > 0.5 and fp16.problem is not None and "gradient" in fp16.problem


def test_a_loss_scale_that_overflows_is_lowered_as_the_scaler_would() -> None:
    fp16 = check(seeded_detector(), "fp16", criterion=Scaled(30.0))["fp16"]
    assert sanity.LAST_SCALE <= fp16.scale < sanity.FIRST_SCALE
    assert fp16.finite and fp16.problem is None


def test_a_loss_that_overflows_at_every_scale_is_a_problem() -> None:
    fp16 = check(seeded_detector(), "fp16", criterion=Scaled(1e9))["fp16"]
    assert fp16.problem is not None


# ---------------------------------------------------------------- special models


def test_frozen_stages_have_no_gradient_to_compare() -> None:
    model = seeded_detector()
    model.stages["backbone.stage4"].requires_grad_(False)  # stages before it still learn
    trials = check(model, "bf16")
    assert trials["bf16"].problem is None
    assert trials["bf16"].stages.keys() == model.stages.keys() - {"backbone.stage4"}


@pytest.mark.parametrize(
    ("name", "shift", "low", "high"), [("yolo26n", 0.5, 0.45, 0.55), ("yolo11n", 1.0, 0.0, 0.1)]
)
def test_box_error_is_in_cells_whatever_the_head_says_its_distances_in(
    name: str, shift: float, low: float, high: float
) -> None:
    """Half a cell more on each side is that on every level; where distances are distributions, the
    same added to all logits of a side changes no box."""
    torch.manual_seed(0)
    model = build(name, 2)
    head = model.stages["head.one_to_many"]
    hooked(head, lambda out: (out[0], out[1] + shift), BF16)
    assert low <= check(model, "bf16", count=2)["bf16"].box_error <= high


def test_the_model_that_is_checked_is_a_copy_in_training_mode() -> None:
    seen = []
    model = copy.deepcopy(seeded_detector()).eval()
    hooked(model.backbone.stem, lambda x: x, lambda: seen.append(model.training) or False)
    model.backbone.stem.norm.register_forward_hook(lambda m, i, o: seen.append(m.training))
    check(model, "bf16", count=2)
    assert not model.training and True in seen
