"""Stages that fail in half precision compute in float32, and the others do not."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from known_hardware import A100, ZEN4
from ladder_fakes import BF16, FP16, FP32, STAGE, Checks, cache, checks, choose, shown  # noqa: F401
from rows import each
from tiny import IN_BF16, IN_FP16, hooked, make_batch, make_criterion, overflowing, tiny_detector
from torch import nn
from yolodet.detector.export.graph import ExportGraph
from yolodet.detector.models.build import build
from yolodet.detector.models.checkpointing import checkpoint_stages, checkpointed_stages
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.float32_stages import float32_stages, keep_in_float32, to_dtype
from yolodet.detector.models.stage_names import stages_named
from yolodet.detector.options.errors import UsageError
from yolodet.detector.precision.by_stage import ROUNDS, try_precisions
from yolodet.detector.precision.precision import Precision
from yolodet.detector.precision.sanity import SanityCheck, Trial, failing_stages
from yolodet.detector.run.folder import RunError
from yolodet.detector.run.ranks import Ranks

STAGE4 = "backbone.stage4"


def seeded() -> Detector:
    torch.manual_seed(0)
    return tiny_detector()


def tried(model: Detector, *names: str) -> list[Trial]:
    check = SanityCheck(model, make_criterion(), make_batch(4))
    return try_precisions(check.run, names, tuple(model.stages))


# ---------------------------------------------------------------- the stage itself


def test_a_stage_in_float32_computes_as_it_does_without_autocast() -> None:
    model = seeded().eval()
    images = make_batch(2).images
    keep_in_float32(model, ["backbone.stem", "head.one_to_one"])
    seen: dict[str, Any] = {}
    for name in ("backbone.stem", "backbone.stage3", "head.one_to_one"):
        stage = model.get_submodule(name)
        stage.register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, (i, o)))
    with torch.no_grad(), Precision("bf16", "cpu", "").autocast():
        model(images)
    assert seen["backbone.stem"][1].dtype == torch.float32
    assert seen["backbone.stage3"][1].dtype == torch.bfloat16
    keep_in_float32(model, ())
    with torch.no_grad():
        for name, (inputs, outputs) in seen.items():
            wide = [tuple(x.float() for x in i) if type(i) is tuple else i.float() for i in inputs]
            exact = model.get_submodule(name)(*wide)
            same = [torch.equal(a, b) for a, b in zip(exact, outputs, strict=True)]
            assert all(same) == (name != "backbone.stage3")


def test_in_float32_nothing_changes_and_copies_keep_their_stages() -> None:
    plain = seeded().train()
    kept = copy.deepcopy(plain)
    keep_in_float32(kept, [STAGE4])
    twin = copy.deepcopy(kept)
    assert float32_stages(twin) == (STAGE4,) and float32_stages(plain) == ()
    assert twin.backbone.stage4.forward.stage is twin.backbone.stage4
    assert list(twin.state_dict()) == list(plain.state_dict())
    batch = make_batch(2)
    grads = []
    for model in (plain, twin):
        make_criterion()(model(batch.images), batch).total.backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.equal(*grads)
    keep_in_float32(twin, ["backbone.stem"])
    assert float32_stages(twin) == ("backbone.stem",)


def test_it_goes_together_with_checkpointing() -> None:
    grads = []
    for recomputed in ([], [STAGE4, "backbone.stem"]):
        model = seeded().train()
        checkpoint_stages(model, recomputed)
        keep_in_float32(model, [STAGE4])
        assert set(checkpointed_stages(model)) == set(recomputed)
        batch = make_batch(2)
        with Precision("bf16", "cpu", "").autocast():
            outputs = model(batch.images)
        make_criterion()(outputs, batch).total.backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        keep_in_float32(model, ())
        assert set(checkpointed_stages(model)) == set(recomputed)
    assert torch.equal(*grads)


@each("stage", ["backbone.stem", "neck.mix_up5", "head.one_to_one"])
def test_half_precision_weights_leave_the_stage_alone(stage: str) -> None:
    torch.manual_seed(0)
    model = build("yolo26n", 2).fuse(("one_to_one",)).eval()
    images = torch.rand(1, 3, 64, 64)
    keep_in_float32(model, [stage])
    with torch.no_grad():
        exact = model(images)["one_to_one"].logits
        found = to_dtype(model, torch.bfloat16)(images)["one_to_one"].logits
    assert {p.dtype for p in model.get_submodule(stage).parameters()} == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float32, torch.bfloat16}
    assert (found.float() - exact).abs().max() < 0.1


# ---------------------------------------------------------------- the check


def test_only_the_stage_that_overflows_goes_to_float32() -> None:
    model = seeded()
    overflowing(model.backbone.stage4)
    fp32, whole, part = tried(model, "fp16")
    assert whole.problem == f"the output of {STAGE4} is not finite" and whole.fp32_stages == ()
    assert part.problem is None and part.label == f"fp16 with {STAGE4} in fp32"
    assert part.stages[STAGE4].output == 0.0 and 0 < part.stages["backbone.stage5"].output < 0.01
    assert part.loss_error < 0.01
    assert fp32.saved_bytes > part.saved_bytes > 0.4 * fp32.saved_bytes


def test_two_stages_that_fail_go_there_together_and_other_precisions_are_left_alone() -> None:
    model = seeded()
    for name in ("backbone.stem", "backbone.stage4"):
        hooked(model.get_submodule(name).conv, lambda x: x * float("inf"), IN_BF16)
    trials = tried(model, "bf16", "fp16")
    assert [t.label for t in trials] == [
        "fp32", "bf16", "fp16", "bf16 with backbone.stem and backbone.stage4 in fp32",
    ]  # fmt: skip
    assert [bool(t.problem) for t in trials] == [False, True, False, False]


def test_a_fault_between_the_stages_gives_the_precision_up() -> None:
    model = seeded()
    hooked(model.neck, lambda features: tuple(x * float("nan") for x in features), IN_FP16)
    trials = tried(model, "fp16")
    assert trials[1].problem == "loss or gradients are not finite" and trials[-1].problem
    assert len(trials) <= 2 + ROUNDS


@each(
    ("changes", "expected"),
    [
        ({"stages": {"a": replace(STAGE, cosine=0.5), "b": STAGE}}, ("a",)),
        ({"stages": {"a": STAGE, "b": replace(STAGE, output=float("nan"))}}, ("b",)),
        ({"finite": False, "suspects": ("b",)}, ("b",)),
        ({"stages": {"a": STAGE, "b": replace(STAGE, lost=0.9)}}, ("b",)),
        ({"head_loss_error": 0.2}, ("head.x",)),
        ({"box_error": 0.9}, ("head.x",)),
        ({"loss_error": 0.5}, ()),
        ({}, ()),
    ],
)
def test_stages_are_named_by_the_evidence(changes: dict[str, Any], expected: Any) -> None:
    usual = {"stages": {"a": STAGE, "b": STAGE, "head.x": STAGE}}
    assert failing_stages(replace(FP16, **(usual | changes))) == expected


class Two(Ranks):
    """This rank, and another whose stage ``b`` fails."""

    def gather(self, value: Any) -> list[Any]:
        if isinstance(value, list):
            return [value, [replace(t, problem=t.problem and "other") for t in value]]
        return [value, ("b",)]


def test_ranks_put_the_stages_of_all_into_float32() -> None:
    stages = {"a": replace(STAGE, cosine=0.5), "b": STAGE}
    bad = replace(BF16, stages=stages, problem="the gradient of a has another direction")
    asked: list[Mapping[str, tuple[str, ...]]] = []

    def measure(wanted: Mapping[str, tuple[str, ...]]) -> list[Trial]:
        asked.append(wanted)
        found = replace(BF16, fp32_stages=wanted["bf16"]) if len(asked) > 1 else bad
        return [FP32, found]

    trials = try_precisions(measure, ["bf16"], ["a", "b", "c"], ranks=Two())
    assert asked == [{"bf16": ()}, {"bf16": ("a", "b")}] and len(trials) == 3


# ---------------------------------------------------------------- the decision


def failing(base: Trial, *stages: str) -> list[Trial]:
    """``base`` where ``stages`` fail, and where they are in float32."""
    bad = {name: replace(STAGE, output=float("inf")) for name in stages}
    problem = f"the output of {stages[0]} is not finite"
    whole = replace(base, stages={"backbone.stem": STAGE, **bad}, problem=problem)
    return [whole, replace(base, fp32_stages=stages, step_ms=base.step_ms + 3)]


def test_the_ladder_takes_it_and_says_so_in_one_line(checks: Checks, cache: Path) -> None:
    for trial in failing(BF16, STAGE4):
        checks.trials[trial.label] = trial
    decision = choose(True, ZEN4)
    assert shown(decision) == ("bf16", ("fp32",)) and decision.precision.fp32_stages == (STAGE4,)
    assert decision.line() == (
        f"AMP: bf16 with {STAGE4} in fp32 on cpu, 1.5x as fast, 0.54x activation memory, loss "
        f"differs by 0.10%; without: the output of {STAGE4} is not finite"
    )
    again = choose(True, ZEN4)
    assert again.cached and again.precision == decision.precision and len(checks.asked) == 2


def test_a_rung_that_needs_float32_stages_is_none_to_fall_back_to(checks: Checks) -> None:
    for trial in failing(BF16, STAGE4):
        checks.trials[trial.label] = trial
    assert shown(choose(True, A100)) == ("fp16", ("fp32",))


def test_a_named_precision_is_used_with_its_stages_or_refused(checks: Checks) -> None:
    whole, part = failing(FP16, STAGE4)
    checks.trials |= {"fp16": whole, part.label: part}
    assert choose("fp16", A100).precision.fp32_stages == (STAGE4,)
    checks.trials[part.label] = replace(part, problem="the loss differs by 17.0% (at most 10%)")
    with pytest.raises(RunError, match=f"the output of {STAGE4} is not finite"):
        choose("fp16", A100, batch=make_batch(3))


def test_stages_by_hand_are_in_float32_in_every_trial(checks: Checks) -> None:
    by_hand = replace(BF16, fp32_stages=("backbone.stage5", "head.one_to_many", "head.one_to_one"))
    checks.trials[by_hand.label] = by_hand
    decision = choose(True, ZEN4, amp_fp32="head,backbone.stage5")
    assert decision.precision.fp32_stages == by_hand.fp32_stages
    assert "without" not in decision.line() and len(checks.asked) == 1
    unchecked = choose(True, ZEN4, amp_fp32="head,backbone.stage5", amp_check=False)
    assert unchecked.precision.fp32_stages == by_hand.fp32_stages
    with pytest.raises(UsageError) as wrong:
        choose(False, ZEN4, amp_fp32="backbone.stage55")
    assert str(wrong.value).startswith(
        "amp_fp32: yolo26n has no stage 'backbone.stage55'; did you mean 'backbone.stage5'"
    )
    assert wrong.value.exit_code == 2 and "\n" not in str(wrong.value)


def test_names_of_stages() -> None:
    model = seeded()
    assert stages_named(model, ("head", "backbone.stem"), "x")[0] == "backbone.stem"
    assert stages_named(model, None, "x") == stages_named(model, False, "x") == ()
    with pytest.raises(UsageError, match=r"x: yolo26n has no stage 'hed'; did you mean 'head'\?"):
        stages_named(model, ("hed",), "x")
    with pytest.raises(UsageError, match=r"no stage '4711'; it has backbone\.stem, "):
        stages_named(model, ("4711",), "x")
    assert isinstance(model.neck, nn.Identity)  # and no stage: it has no parameters


def test_a_model_with_stages_in_float32_is_described_and_estimated_as_any_other() -> None:
    model = seeded()
    plain = model.describe(64), model.counts(64)
    keep_in_float32(model, tuple(model.stages))
    assert (model.describe(64), model.counts(64)) == plain


def test_a_graph_in_float16_leaves_them_in_float32() -> None:
    model = seeded().eval()
    keep_in_float32(model, ["backbone.stem"])
    graph = ExportGraph(model, max_det=5)
    assert graph.dtype == torch.float32
    graph.halve()
    assert graph.dtype == torch.float16 and float32_stages(graph.model) == ("backbone.stem",)
    assert graph.model.backbone.stem.conv.weight.dtype == torch.float32
    with torch.no_grad():
        assert graph(torch.rand(1, 3, 64, 64)).dtype == torch.float32
