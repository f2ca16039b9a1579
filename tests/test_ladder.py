"""Which precision a run takes, what it says about it, and what it remembers of the check."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_hardware import A100, AMX, GTX_1660, H200, OLD_CPU, P100, T4, ZEN4
from tiny import casts_to, hooked, make_batch, make_criterion, tiny_detector
from yolodet.datasets.sample import Batch
from yolodet.detector.config import TrainConfig
from yolodet.detector.log import Log
from yolodet.detector.parse import UsageError, parse
from yolodet.detector.runs import RunError
from yolodet.detector.train import ladder
from yolodet.detector.train.hardware import DeviceTraits
from yolodet.detector.train.ladder import (
    Decision,
    choose_precision,
    resumed_precision,
    write_decision,
)
from yolodet.detector.train.probe import StageError
from yolodet.detector.train.sanity import SanityCheck, Trial

CPU = torch.device("cpu")
STAGE = StageError(output=0.01, cosine=0.999, peak=3.0, lost=0.001, count=100)
FP32 = Trial("fp32", 10.0, 0.0, True, 1.0, {}, 0.0, 0.0, 100.0, 1000, 0)
BF16 = Trial("bf16", 10.0, 0.001, True, 1.0, {"head": STAGE}, 0.001, 0.1, 65.0, 540, 0)
FP16 = replace(BF16, precision="fp16", scale=65536.0, step_ms=50.0)


class Checks:
    """Stands in for SanityCheck: hands out trials, remembers what it was asked."""

    def __init__(self, *trials: Trial) -> None:
        self.trials = {trial.precision: trial for trial in (FP32, BF16, FP16, *trials)}
        self.asked: list[tuple[str, ...]] = []
        self.sizes: list[int] = []

    def __call__(self, model: Any, criterion: Any, batch: Batch) -> Checks:
        self.sizes.append(len(batch))
        return self

    def run(self, names: tuple[str, ...]) -> list[Trial]:
        self.asked.append(names)
        return [self.trials[name] for name in ("fp32", *names)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    checks = Checks()
    monkeypatch.setattr(ladder, "SanityCheck", checks)
    return checks


def choose(
    amp: Any, traits: DeviceTraits | None = ZEN4, *, batch: Batch | None = None,
    model: Any = None, log: Log | None = None, **words: Any,
) -> Decision:  # fmt: skip
    """The decision for ``amp=...`` on a device with ``traits``."""

    def batches() -> Iterator[Batch]:
        yield make_batch(2) if batch is None else batch
        raise AssertionError("only the first batch may be taken")

    config, _ = parse(TrainConfig, {"amp": amp, **words})
    return choose_precision(
        config,
        tiny_detector() if model is None else model,
        make_criterion(),
        batches,
        CPU,
        log or Log(verbose=False),
        traits=traits,
    )


def shown(decision: Decision) -> tuple[str, tuple[str, ...]]:
    return decision.precision.name, decision.rungs


# ---------------------------------------------------------------- what is chosen


@pytest.mark.parametrize("amp", [True, "auto", "true"])
@pytest.mark.parametrize(
    ("traits", "expected"),
    [
        (OLD_CPU, ("fp32", ())),
        (ZEN4, ("bf16", ("fp32",))),
        (GTX_1660, ("fp32", ())),
        (P100, ("fp32", ())),
        (T4, ("fp16", ("fp32",))),
        (H200, ("fp16", ("bf16", "fp32"))),  # the faster of two that passed
    ],
    ids=lambda value: value.name if isinstance(value, DeviceTraits) else "",
)
def test_amp_takes_the_fastest_that_passes(
    checks: Checks, amp: Any, traits: DeviceTraits, expected: Any
) -> None:
    decision = choose(amp, traits)
    assert shown(decision) == expected
    assert (len(checks.asked) == 1) == (traits not in (OLD_CPU, GTX_1660, P100))
    assert decision.precision.device_type == traits.type


def test_known_bad_hardware_is_the_reason_and_nothing_is_run(checks: Checks) -> None:
    decision = choose(True, GTX_1660)
    assert "GTX 1660 Ti returns NaN" in decision.precision.reason
    assert "emulates bf16" in decision.precision.reason
    assert decision.line() == f"AMP off: {decision.precision.reason}; training in fp32"
    assert checks.asked == [] and decision.trials == []


@pytest.mark.parametrize("amp", [False, "fp32"])
def test_without_amp_nothing_is_run(checks: Checks, amp: Any) -> None:
    decision = choose(amp, H200)
    assert shown(decision) == ("fp32", ()) and checks.asked == []
    assert decision.line() == "AMP off: as told; training in fp32"


def test_what_passed_but_is_slower_is_not_used(checks: Checks) -> None:
    checks.trials["bf16"] = replace(BF16, step_ms=100.0)
    decision = choose(True)
    assert shown(decision) == ("fp32", ())
    reason = "bf16 passed but is not faster (100 ms a step, fp32 100 ms)"
    assert decision.line() == f"AMP off: {reason}; training in fp32"
    checks.trials["bf16"] = replace(BF16, step_ms=99.0)
    assert choose(True, batch=make_batch(3)).precision.name == "bf16"


def test_what_failed_is_not_used_however_fast_nor_fallen_back_to(checks: Checks) -> None:
    checks.trials["bf16"] = replace(BF16, problem="the loss differs by 7.0% (at most 2%)")
    assert shown(choose(True, A100)) == ("fp16", ("fp32",))
    checks.trials["fp16"] = replace(FP16, problem="boxes move by 9.0 pixels (at most 4)")
    decision = choose(True, A100)
    assert shown(decision) == ("fp32", ())
    assert decision.precision.reason == (
        "bf16: the loss differs by 7.0% (at most 2%); fp16: boxes move by 9.0 pixels (at most 4)"
    )


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_a_named_precision_is_used_though_another_is_faster(checks: Checks, name: str) -> None:
    checks.trials[name] = replace(checks.trials[name], step_ms=500.0)
    decision = choose(name, AMX)
    assert decision.precision.name == name and decision.precision.reason == "as told"
    assert checks.asked == [(name,)]
    assert decision.line().startswith(f"AMP: {name} on cpu, 0.2x as fast")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("amp", "traits", "words"),
    [
        ("fp16", ZEN4, "amp=fp16: this CPU (AVX512) has no fp16 instructions: fp16 autocast"),
        ("bf16", OLD_CPU, "amp=bf16: this CPU (AVX2) has no bf16 instructions"),
        ("fp16", GTX_1660, "amp=fp16: NVIDIA GeForce GTX 1660 Ti returns NaN"),
        ("bf16", T4, "amp=bf16: Tesla T4 (compute 7.5) emulates bf16"),
    ],
)
def test_a_named_precision_the_device_lacks_is_refused_with_the_mend(
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
    assert decision.precision.reason == "as told, although the output of head is not finite"


def test_amp_check_false_runs_nothing_and_takes_the_safer(checks: Checks) -> None:
    decision = choose(True, H200, amp_check=False)
    assert shown(decision) == ("bf16", ("fp32",)) and checks.asked == []
    assert decision.line() == "AMP: bf16 on cuda, not checked (amp_check=False)"
    assert choose("fp16", H200, amp_check=False).precision.name == "fp16"
    with pytest.raises(UsageError, match="no fast fp16"):
        choose("fp16", P100, amp_check=False)


# ---------------------------------------------------------------- what is said and written


def test_the_verdict_is_one_line_and_the_evidence_a_table(checks: Checks, tmp_path: Path) -> None:
    log = Log(verbose=False, file=tmp_path / "log.txt")
    decision = choose(True, ZEN4, log=log)
    line = "AMP: bf16 on cpu, 1.5x as fast, 0.54x activation memory, loss differs by 0.1%"
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
    checks.trials["bf16"] = replace(BF16, problem=problem, stages=stages, loss=float("nan"))
    decision = choose(True, ZEN4, log=Log(verbose=False, file=tmp_path / "log.txt"))
    text = " ".join((tmp_path / "log.txt").read_text().split())
    assert f"AMP off: bf16: {problem}; training in fp32" in text
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
        "name": "fp32", "device_type": "cpu", "reason": "bf16: boxes move",
    }  # fmt: skip
    assert content["rungs"] == [] and content["cached"] is False
    assert content["objections"].keys() == {"fp16"}
    fp32, bf16 = content["trials"]
    assert fp32["step_ms"] == 100.0 and fp32["problem"] is None
    assert bf16["box_error"] is None and bf16["loss"] is None and bf16["problem"] == "boxes move"
    assert bf16["stages"]["head"] == {
        "output": 0.01, "cosine": 0.999, "peak": 3.0, "lost": 0.001, "count": 100,
    }  # fmt: skip


# ---------------------------------------------------------------- what is remembered


def test_the_second_run_of_a_kind_does_not_check_again(checks: Checks) -> None:
    first, second = choose(True), choose(True)
    assert len(checks.asked) == 1
    assert (first.cached, second.cached) == (False, True)
    assert second.trials == first.trials and second.precision == first.precision
    assert second.line() == first.line() + " (checked before)"


@pytest.mark.parametrize("change", ["images", "size", "classes", "frozen", "layout", "names"])
def test_another_kind_of_run_is_checked_anew(checks: Checks, change: str) -> None:
    choose(True)
    model = tiny_detector(3 if change == "classes" else 2)
    if change == "frozen":
        model.stages["backbone.stem"].requires_grad_(False)
    if change == "layout":
        model = model.to(memory_format=torch.channels_last)
    batch = make_batch(3 if change == "images" else 2, size=96 if change == "size" else 64)
    choose(True, AMX if change == "names" else ZEN4, batch=batch, model=model)
    assert len(checks.asked) == 2
    choose(True)
    assert len(checks.asked) == 2


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (torch, "get_num_threads", lambda: 77),
        (torch, "__version__", "99.0"),
        (ladder, "traits_of", lambda device: H200),
        (ladder, "CACHE_VERSION", -1),
    ],
    ids=["threads", "torch", "device", "schema"],
)
def test_another_machine_or_version_is_checked_anew(
    checks: Checks, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, value: Any
) -> None:
    choose(True)
    monkeypatch.setattr(owner, name, value)
    choose(True)
    assert len(checks.asked) == 2


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "null", "7", '["fp32"]', "[{}]", '[{"stages": []}]', '{"a": 1}',
     '[{"stages": {"head": {}}}]', '[{"stages": {"head": 3}}]'],
)  # fmt: skip
def test_a_damaged_memory_is_ignored(checks: Checks, cache: Path, damage: str) -> None:
    choose(True)
    (file,) = (cache / "amp").iterdir()
    file.write_text(damage)
    assert not choose(True).cached
    assert len(checks.asked) == 2
    assert choose(True).cached  # and it has been mended


def test_trials_of_other_precisions_are_not_taken_from_memory(checks: Checks, cache: Path) -> None:
    choose(True)
    (file,) = (cache / "amp").iterdir()
    file.write_text(json.dumps(json.loads(file.read_text())[:1]))
    assert not choose(True).cached and len(checks.asked) == 2


def test_a_failed_check_is_not_remembered(checks: Checks) -> None:
    checks.trials["bf16"] = replace(BF16, problem="the loss differs by 7.0% (at most 2%)")
    choose(True), choose(True)
    assert len(checks.asked) == 2


def test_a_cache_that_can_not_be_written_is_no_reason_to_stop(checks: Checks, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert choose(True).precision.name == "bf16"


# ---------------------------------------------------------------- too little memory


class TooLarge(Checks):
    """A check that has memory for ``most`` images; the error is what torch raises."""

    def __init__(self, most: int, error: RuntimeError) -> None:
        super().__init__()
        self.most, self.error = most, error

    def run(self, names: tuple[str, ...]) -> list[Trial]:
        if self.sizes[-1] > self.most:
            raise self.error
        return super().run(names)


ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
)


@pytest.mark.parametrize("error", ERRORS, ids=["gpu", "cpu"])
def test_out_of_memory_halves_the_batch(
    monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    checks = TooLarge(3, error)
    monkeypatch.setattr(ladder, "SanityCheck", checks)
    assert choose(True, batch=make_batch(13)).precision.name == "bf16"
    assert checks.sizes == [13, 6, 3]


@pytest.mark.parametrize("error", ERRORS, ids=["gpu", "cpu"])
def test_out_of_memory_with_one_image_says_so(
    monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    checks = TooLarge(0, error)
    monkeypatch.setattr(ladder, "SanityCheck", checks)
    with pytest.raises(RunError, match="out of memory with a single image: take a smaller imgsz"):
        choose(True, batch=make_batch(2))
    assert checks.sizes == [2, 1]


def test_another_error_is_not_taken_for_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "SanityCheck", TooLarge(0, RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        choose(True)


def test_too_much_for_the_cpu_is_recognised() -> None:
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**55)
    assert ladder.out_of_memory(failure.value)


def test_a_large_batch_is_checked_in_part(checks: Checks) -> None:
    choose(True, batch=make_batch(20))
    assert checks.sizes == [ladder.CHECK_IMAGES]


# ---------------------------------------------------------------- with the real check


def times(monkeypatch: pytest.MonkeyPatch, **ms: float) -> None:
    """Steps take as long as is said here."""
    monkeypatch.setattr(SanityCheck, "_time", lambda self, names: {n: ms[n] for n in names})


def test_on_this_machine_bf16_is_taken_when_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, fp32=30.0, bf16=20.0)
    model = tiny_detector()
    decision = choose(True, model=model)
    assert shown(decision) == ("bf16", ("fp32",))
    again = choose(True, model=model)
    assert again.cached and again.trials == decision.trials  # also through JSON


def test_on_this_machine_bf16_is_left_when_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, fp32=20.0, bf16=20.1)
    assert "passed but is not faster" in choose(True).precision.reason


def test_fp16_that_overflows_loses_to_a_slower_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, fp32=30.0, bf16=20.0, fp16=10.0)
    model = tiny_detector()
    hooked(model.backbone.stage4.conv, lambda x: x * 1e6, lambda: True)
    decision = choose(True, AMX, model=model)
    assert shown(decision) == ("bf16", ("fp32",))
    assert decision.trials[2].problem == "the output of backbone.stage4 is not finite"


def test_a_device_that_returns_garbage_trains_in_fp32_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times(monkeypatch, fp32=30.0, bf16=20.0)
    model = tiny_detector()
    hooked(model.backbone.stage3, lambda x: x * 0, casts_to(torch.bfloat16))
    decision = choose(True, model=model)
    assert shown(decision) == ("fp32", ())
    assert decision.precision.reason.startswith("bf16: the output of backbone.stage3 is off by 100")


# ---------------------------------------------------------------- going on


@pytest.mark.parametrize(
    ("saved", "traits", "force", "expected"),
    [
        ("bf16", ZEN4, False, ("bf16", ("fp32",))),
        ("fp32", ZEN4, False, ("fp32", ())),
        ("fp16", H200, False, ("fp16", ("bf16", "fp32"))),
        ("bf16", OLD_CPU, False, ("fp32", ())),
        ("fp16", ZEN4, True, ("fp16", ("bf16", "fp32"))),
    ],
)
def test_a_run_goes_on_in_its_precision_or_in_fp32(
    monkeypatch: pytest.MonkeyPatch, saved: str, traits: DeviceTraits, force: bool, expected: Any
) -> None:
    monkeypatch.setattr(ladder, "traits_of", lambda device: traits)
    decision = resumed_precision(saved, CPU, Log(verbose=False), force=force)
    assert shown(decision) == expected and decision.trials == []
    kept = "as before the interruption"
    assert (decision.precision.reason == kept) == (saved == expected[0])
