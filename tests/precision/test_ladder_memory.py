"""What the choice of a precision remembers, and how it copes with little memory and bad devices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from known_hardware import AMX, H200, OLD_CPU, ZEN4
from ladder_fakes import BF16, CPU, FP16, FP32, STAGE, Checks, cache, checks, choose, shown  # noqa: F401
from rows import each
from tiny import casts_to, hooked, make_batch, tiny_detector
from yolodet.detector.precision import ladder
from yolodet.detector.precision.ladder import resumed_precision
from yolodet.detector.precision.sanity import SanityCheck, Trial
from yolodet.detector.run.folder import RunError
from yolodet.detector.run.hardware import DeviceTraits
from yolodet.detector.run.memory import out_of_memory

# ---------------------------------------------------------------- what is remembered


def test_the_second_run_of_a_kind_does_not_check_again(checks: Checks) -> None:
    first, second = choose(True), choose(True)
    assert len(checks.asked) == 1
    assert (first.cached, second.cached) == (False, True)
    assert second.trials == first.trials and second.precision == first.precision
    assert second.line() == first.line() + " (checked before)"


@each("change", ["images", "size", "classes", "frozen", "layout", "names"])
def test_another_kind_of_run_is_checked_anew(checks: Checks, change: str) -> None:
    checks.asked.clear()
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


@each(
    ("owner", "name", "value"),
    [
        (torch, "get_num_threads", lambda: 77),
        (torch, "__version__", "99.0"),
        (ladder, "traits_of", lambda device: H200),
        (ladder, "CACHE_VERSION", -1),
    ],
)
def test_another_machine_or_version_is_checked_anew(
    checks: Checks, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, value: Any
) -> None:
    checks.asked.clear()
    choose(True)
    monkeypatch.setattr(owner, name, value)
    choose(True)
    assert len(checks.asked) == 2


def test_fresh_weights_are_alike_and_those_of_a_checkpoint_are_not(checks: Checks) -> None:
    """A checkpoint that overflows must not be given the verdict of one that does not."""
    models = [tiny_detector() for _ in range(2)]
    for model in models:
        choose(True, model=model, fresh=True)
    assert len(checks.asked) == 1
    for model in models * 2:
        choose(True, model=model, fresh=False)
    assert len(checks.asked) == 3


@each(
    "damage",
    ["", "{", "[]", "null", "7", '["fp32"]', "[{}]", '[{"stages": []}]', '{"a": 1}',
     '[{"stages": {"head": {}}}]', '[{"stages": {"head": 3}}]'],
)  # fmt: skip
def test_a_damaged_memory_is_ignored(checks: Checks, cache: Path, damage: str) -> None:
    checks.asked.clear()
    choose(True)
    (file,) = (cache / "amp").iterdir()
    file.write_text(damage)
    assert not choose(True).cached
    assert len(checks.asked) == 2
    assert choose(True).cached  # and the file is written anew


def test_trials_of_other_precisions_are_not_taken_from_memory(checks: Checks, cache: Path) -> None:
    choose(True)
    (file,) = (cache / "amp").iterdir()
    file.write_text(json.dumps(json.loads(file.read_text())[:1]))
    assert not choose(True).cached and len(checks.asked) == 2


def test_a_failed_check_is_not_remembered(checks: Checks) -> None:
    checks.trials["bf16"] = replace(BF16, problem="the loss differs by 17.0% (at most 10%)")
    choose(True), choose(True)
    assert len(checks.asked) == 2


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(checks: Checks, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    assert choose(True).precision.name == "bf16"


# ---------------------------------------------------------------- too little memory


class TooLarge(Checks):
    """A check that has memory for ``most`` images; the error is what torch raises."""

    def __init__(self, most: int, error: RuntimeError) -> None:
        super().__init__()
        self.most, self.error = most, error

    def run(self, wanted: Mapping[str, tuple[str, ...]]) -> list[Trial]:
        if self.sizes[-1] > self.most:
            raise self.error
        return super().run(wanted)


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
    with pytest.raises(RunError, match="out of memory with a single image: use a smaller imgsz="):
        choose(True, batch=make_batch(2))
    assert checks.sizes == [2, 1]


def test_another_error_is_not_taken_for_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "SanityCheck", TooLarge(0, RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        choose(True)


def test_too_much_for_the_cpu_is_recognized() -> None:
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**55)
    assert out_of_memory(failure.value)


def test_a_large_batch_is_checked_in_part(checks: Checks) -> None:
    choose(True, batch=make_batch(20))
    assert checks.sizes == [ladder.CHECK_IMAGES]


@each(
    ("count", "side", "checked"),
    [(20, 64, 16), (20, 320, 16), (20, 448, 8), (20, 640, 4), (20, 1280, 4), (3, 1280, 3)],
)
def test_large_images_are_checked_in_smaller_parts(count: int, side: int, checked: int) -> None:
    images = torch.empty(count, 3, side, side, dtype=torch.uint8, device="meta")
    batch = replace(make_batch(count), images=images)
    assert len(ladder.images_to_check(batch)) == checked


# ---------------------------------------------------------------- with the real check


def times(monkeypatch: pytest.MonkeyPatch, **ms: float) -> None:
    """Steps take as long as is said here."""
    said = lambda self, asked: {p.name: ms[p.name] for p in asked}  # noqa: E731
    monkeypatch.setattr(SanityCheck, "_time", said)


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


def test_fp16_that_overflows_loses_to_a_bf16_that_is_as_fast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times(monkeypatch, fp32=30.0, bf16=20.0, fp16=20.0)
    model = tiny_detector()
    hooked(model.backbone.stage4.conv, lambda x: x * 1e6, lambda: True)
    decision = choose(True, AMX, model=model)
    assert shown(decision) == ("bf16", ("fp32",)) and decision.trials[3].problem is None
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


@each(
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
    decision = resumed_precision(saved, CPU, force=force)
    assert shown(decision) == expected and decision.trials == []
    kept = "as before the run was interrupted"
    assert (decision.precision.reason == kept) == (saved == expected[0])
