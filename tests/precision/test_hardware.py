"""What is known about a device decides before anything runs: devices invented by their traits."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch
from known_hardware import A100, AMX, GTX_1660, H200, MPS, OLD_CPU, P100, T4, V100, ZEN4, card
from rows import each
from yolodet.detector.precision.precision import Precision, use_precision
from yolodet.detector.run import hardware
from yolodet.detector.run.hardware import DeviceTraits, candidates, objection, traits_of
from yolodet.weights.checkpoint import Meta


@each(
    ("traits", "expected"),
    [
        (GTX_1660, ()),
        (T4, ("fp16",)),
        (V100, ("fp16",)),
        (P100, ()),
        (A100, ("bf16", "fp16")),
        (H200, ("bf16", "fp16")),
        (OLD_CPU, ()),
        (ZEN4, ("bf16",)),
        (AMX, ("bf16", "fp16")),
        (MPS, ("fp16",)),
    ],
)
def test_only_what_the_hardware_computes_fast_and_right_is_tried(
    traits: DeviceTraits, expected: tuple[str, ...]
) -> None:
    assert candidates(traits) == expected
    for name in ("bf16", "fp16"):
        assert (objection(traits, name) is None) == (name in expected)
    assert objection(traits, "fp32") is None


@each(
    ("traits", "name", "words"),
    [
        (GTX_1660, "fp16", "GTX 1660 Ti returns NaN from fp16 convolutions"),
        (GTX_1660, "bf16", r"GTX 1660 Ti \(compute 7.5\) emulates bf16"),
        (T4, "bf16", r"Tesla T4 \(compute 7.5\) emulates bf16; native from compute 8.0 \(Ampere\)"),
        (V100, "bf16", r"V100-SXM2-16GB \(compute 7.0\) emulates bf16"),
        (P100, "fp16", r"P100-PCIE-16GB \(compute 6.0\) has no fast fp16; from compute 7.0"),
        (OLD_CPU, "bf16", r"this CPU \(AVX2\) has no bf16 instructions \(AVX512-BF16 or AMX\)"),
        (OLD_CPU, "fp16", r"this CPU \(AVX2\) has no fp16 instructions: .* twenty times slower"),
        (ZEN4, "fp16", "twenty times slower than fp32"),
        (MPS, "bf16", "mps does not compute bf16 natively"),
    ],
)
def test_an_objection_names_the_device_and_the_reason(
    traits: DeviceTraits, name: str, words: str
) -> None:
    text = objection(traits, name)
    assert text is not None
    with pytest.raises(ValueError, match=words):
        raise ValueError(text)
    assert "\n" not in text


@each(
    "name",
    ["NVIDIA GeForce GTX 1650", "NVIDIA T400 4GB", "NVIDIA T600 Laptop GPU", "Quadro T1000",
     "NVIDIA T1000 8GB", "Quadro T2000 with Max-Q Design", "NVIDIA GeForce MX450"],
)  # fmt: skip
def test_all_turing_cards_without_tensor_cores_are_known(name: str) -> None:
    assert "NaN" in (objection(card(name, 7, 5), "fp16") or "")


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 2060", "Quadro RTX 4000", "Tesla T40 24GB"])
def test_other_turing_cards_are_not_taken_for_them(name: str) -> None:
    assert candidates(card(name, 7, 5)) == ("fp16",)


def test_cards_are_asked_for_their_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        name, major, minor = "Tesla T4", 7, 5

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    assert traits_of(torch.device("cuda", 0)) == T4


@each(
    ("bf16", "amx", "amx_fp16", "onednn", "expected"),
    [
        (False, False, False, True, ()),
        (True, False, False, True, ("bf16",)),
        (False, True, False, True, ("bf16",)),
        (True, True, True, True, ("bf16", "fp16")),
        (True, True, True, False, ()),
    ],
)
def test_a_cpu_is_asked_for_its_instructions(
    monkeypatch: pytest.MonkeyPatch,
    bf16: bool, amx: bool, amx_fp16: bool, onednn: bool, expected: tuple[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(hardware, "onednn_computes", lambda name: onednn)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_amx_fp16_supported", lambda: amx_fp16)
    assert candidates(traits_of(torch.device("cpu"))) == expected


def test_an_arm_cpu_computes_what_onednn_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    for says, expected in ((True, ("bf16",)), (False, ())):
        monkeypatch.setattr(hardware, "onednn_computes", lambda name, says=says: says)
        assert candidates(traits_of(torch.device("cpu"))) == expected


def test_a_masked_cpu_counts_as_the_older_one() -> None:
    program = (
        "import torch; from yolodet.detector.run.machine import describe_machine; "
        "from yolodet.detector.run.hardware import traits_of; "
        "cpu = traits_of(torch.device('cpu')); "
        "print(cpu.bf16_native, cpu.fp16_native, describe_machine()['devices'][0]['native'])"
    )
    mask = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    said = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **mask}, capture_output=True, text=True
    )
    assert said.stdout == "False False ['fp32']\n"


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_the_scaler_is_never_absent_and_works_for_fp16_alone(name: str) -> None:
    precision = Precision(name, "cpu", "")
    assert precision.scaler().is_enabled() == (name == "fp16")
    with precision.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == precision.dtype


def meta(precision: str) -> Meta:
    return Meta("yolo26n", ("a",), 64, (8, 16, 32), precision)


def test_a_checkpoint_is_used_in_the_precision_it_was_validated_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(hardware, "onednn_computes", lambda name: True)
    cpu = torch.device("cpu")
    assert use_precision("checkpoint", meta("bf16"), cpu).name == "bf16"
    assert use_precision("checkpoint", meta("fp32"), cpu).name == "fp32"
    assert use_precision(True, meta("fp32"), cpu).name == "bf16"
    assert use_precision(False, meta("bf16"), cpu).name == "fp32"
    assert use_precision("fp16", meta("bf16"), cpu).name == "fp16"


def test_a_checkpoint_of_another_device_falls_to_fp32_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for question in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, question, lambda: False)
    precision = use_precision("checkpoint", meta("bf16"), torch.device("cpu"))
    assert precision.name == "fp32" and "no bf16 instructions" in precision.reason
    assert use_precision("auto", meta("bf16"), torch.device("cpu")).name == "fp32"
