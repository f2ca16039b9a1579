"""Which precision a run takes, and what it says about it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from known_hardware import A100, AMX, GTX_1660, H200, OLD_CPU, P100, T4, ZEN4
from ladder_fakes import BF16, CPU, FP16, FP32, STAGE, Checks, cache, checks, choose, shown  # noqa: F401
from rows import each
from tiny import make_batch
from yolodet.detector.options.errors import UsageError
from yolodet.detector.precision.ladder import write_decision
from yolodet.detector.run.folder import RunError
from yolodet.detector.run.hardware import DeviceTraits
from yolodet.detector.run.log import Log

# ---------------------------------------------------------------- what is chosen


@each("amp", [True, "fp16"])
def test_fp16_begins_below_the_loss_scale_that_the_check_allowed(checks: Checks, amp: Any) -> None:
    """Or a run of few updates would lose its first ones."""
    decision = choose(amp, T4)
    here = replace(decision.precision, device_type="cpu")
    assert here.scaler().get_scale() == decision.used.scale / 2 > 1

@each("amp", [True, "auto", "true"])
@each(
    ("traits", "expected"),
    [
        (OLD_CPU, ("fp32", ())),
        (ZEN4, ("bf16", ("fp32",))),
        (GTX_1660, ("fp32", ())),
        (P100, ("fp32", ())),
        (T4, ("fp16", ("fp32",))),
        (H200, ("fp16", ("bf16", "fp32"))),  # the faster of two that passed
    ],
)
def test_amp_takes_the_fastest_that_passes(
    checks: Checks, amp: Any, traits: DeviceTraits, expected: Any
) -> None:
    checks.asked.clear()
    decision = choose(amp, traits)
    assert shown(decision) == expected
    assert (len(checks.asked) == 1) == (traits not in (OLD_CPU, GTX_1660, P100))
    assert decision.precision.device_type == traits.type


def test_known_bad_hardware_is_the_reason_and_nothing_is_run(checks: Checks) -> None:
    decision = choose(True, GTX_1660)
    assert "GTX 1660 Ti returns NaN" in decision.precision.reason
    assert "emulates bf16" in decision.precision.reason
    assert decision.line() == f"AMP disabled: {decision.precision.reason}; training in fp32"
    assert checks.asked == [] and decision.trials == []


@pytest.mark.parametrize("amp", [False, "fp32"])
def test_without_amp_nothing_is_run(checks: Checks, amp: Any) -> None:
    decision = choose(amp, H200)
    assert shown(decision) == ("fp32", ()) and checks.asked == []
    assert decision.line() == f"AMP disabled by amp={amp}; training in fp32"


def test_what_passed_but_is_slower_is_not_used(checks: Checks) -> None:
    checks.trials["bf16"] = replace(BF16, step_ms=100.0)
    decision = choose(True)
    assert shown(decision) == ("fp32", ())
    reason = "bf16 passed but is not faster (100 ms per step, fp32 100 ms)"
    assert decision.line() == f"AMP disabled: {reason}; training in fp32"
    checks.trials["bf16"] = replace(BF16, step_ms=99.0)
    assert choose(True, batch=make_batch(3)).precision.name == "bf16"


def test_what_failed_is_not_used_however_fast_nor_fallen_back_to(checks: Checks) -> None:
    checks.trials["bf16"] = replace(BF16, problem="the loss differs by 17.0% (at most 10%)")
    assert shown(choose(True, A100)) == ("fp16", ("fp32",))
    checks.trials["fp16"] = replace(FP16, problem="boxes move by 9.0 pixels (at most 4)")
    decision = choose(True, A100)
    assert shown(decision) == ("fp32", ())
    assert decision.precision.reason == (
        "bf16: the loss differs by 17.0% (at most 10%); fp16: boxes move by 9.0 pixels (at most 4)"
    )


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_a_named_precision_is_used_though_another_is_faster(checks: Checks, name: str) -> None:
    checks.trials[name] = replace(checks.trials[name], step_ms=500.0)
    decision = choose(name, AMX)
    assert decision.precision.name == name and decision.precision.reason == f"amp={name}"
    assert checks.asked == [(name,)]
    assert decision.line().startswith(f"AMP: {name} on cpu, 0.2x as fast")


# ---------------------------------------------------------------- what is refused


@each(
    ("amp", "traits", "words"),
    [
        ("fp16", ZEN4, "amp=fp16: this CPU (AVX512) has no fp16 instructions: fp16 autocast"),
        ("bf16", OLD_CPU, "amp=bf16: this CPU (AVX2) has no bf16 instructions"),
        ("fp16", GTX_1660, "amp=fp16: NVIDIA GeForce GTX 1660 Ti returns NaN"),
        ("bf16", T4, "amp=bf16: Tesla T4 (compute 7.5) emulates bf16"),
    ],
)
def test_a_named_precision_the_device_lacks_is_refused_with_the_fix(
    checks: Checks, amp: str, traits: DeviceTraits, words: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        choose(amp, traits)
    text = str(refusal.value)
    assert text.startswith(words) and "use amp=True, or amp_force=True" in text
    assert refusal.value.exit_code == 2 and "\n" not in text and checks.asked == []


def test_a_named_precision_that_fails_the_check_ends_the_run(checks: Checks) -> None:
    checks.trials["bf16"] = replace(BF16, problem="the output of head is not finite")
    with pytest.raises(RunError) as failure:
        choose("bf16")
    text = str(failure.value)
    assert text.startswith("amp=bf16 failed the sanity check: the output of head is not finite;")
    assert "amp_force=True" in text and failure.value.exit_code == 1


def test_force_tries_what_the_device_lacks_and_what_failed(checks: Checks) -> None:
    decision = choose("fp16", ZEN4, amp_force=True)
    assert shown(decision) == ("fp16", ("bf16", "fp32"))
    checks.trials["fp16"] = replace(FP16, problem="the output of head is not finite")
    decision = choose("fp16", ZEN4, amp_force=True, batch=make_batch(1))
    assert decision.precision.name == "fp16"
    assert decision.precision.reason == (
        "amp=fp16 and amp_force=True, although the output of head is not finite"
    )


def test_amp_check_false_runs_nothing_and_takes_the_safer(checks: Checks) -> None:
    decision = choose(True, H200, amp_check=False)
    assert shown(decision) == ("bf16", ("fp32",)) and checks.asked == []
    assert decision.line() == "AMP: bf16 on cuda, not checked (amp_check=False)"
    assert choose("fp16", H200, amp_check=False).precision.name == "fp16"
    with pytest.raises(UsageError, match="no fast fp16"):
        choose("fp16", P100, amp_check=False)


# ---------------------------------------------------------------- what is said and written


def test_the_verdict_is_one_line_and_the_evidence_a_table(checks: Checks, tmp_path: Path) -> None:
    log = Log(verbose=False)
    log.to_file(tmp_path / "log.txt")
    decision = choose(True, ZEN4, log=log)
    line = "AMP: bf16 on cpu, 1.5x as fast, 0.54x activation memory, loss differs by 0.10%"
    assert decision.line() == line
    text = (tmp_path / "log.txt").read_text()
    assert text.splitlines()[-1] == line
    rows = [row.split() for row in text.splitlines()]
    assert ["bf16", "65", "1.54x", "0", "0.10%", "1.0%", "0.9990", "0.10", "0.10%", "0.10%",
            "passed"] in rows  # fmt: skip
    assert "fp16 was not tried: this CPU (AVX512) has no fp16 instructions" in text


def test_a_problem_is_a_line_of_the_table(checks: Checks, tmp_path: Path) -> None:
    problem = "the output of backbone.stage4 is not finite"
    stages = {"backbone.stage4": replace(STAGE, output=float("nan"), cosine=0.0)}
    checks.trials["bf16"] = bad = replace(BF16, problem=problem, stages=stages, loss=float("nan"))
    again = replace(bad, fp32_stages=("backbone.stage4",))
    checks.trials[again.label] = again
    log = Log(verbose=False)
    log.to_file(tmp_path / "log.txt")
    decision = choose(True, ZEN4, log=log)
    text = " ".join((tmp_path / "log.txt").read_text().split())
    assert f"AMP disabled: bf16: {problem}; training in fp32" in text
    assert decision.trials[1].problem == problem


def strict(path: Path) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_amp_json_holds_the_decision_and_all_it_rests_on(checks: Checks, tmp_path: Path) -> None:
    checks.trials["bf16"] = replace(
        BF16, box_error=float("inf"), loss=float("nan"), problem="boxes move"
    )
    decision = choose(True, ZEN4)
    write_decision(tmp_path / "amp.json", decision)
    content = strict(tmp_path / "amp.json")
    assert content["line"] == decision.line()
    assert content["precision"] == {
        "name": "fp32", "device_type": "cpu", "reason": "bf16: boxes move", "fp32_stages": [],
        "first_scale": 65536.0,
    }  # fmt: skip
    assert content["rungs"] == [] and content["cached"] is False
    assert content["objections"].keys() == {"fp16"}
    fp32, bf16 = content["trials"]
    assert fp32["step_ms"] == 100.0 and fp32["problem"] is None
    assert bf16["box_error"] is None and bf16["loss"] is None and bf16["problem"] == "boxes move"
    assert bf16["stages"]["head"] == {
        "output": 0.01, "cosine": 0.999, "peak": 3.0, "lost": 0.001, "count": 100,
    }  # fmt: skip
