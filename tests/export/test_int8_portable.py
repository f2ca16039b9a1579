"""INT8 is the same decision on every processor, and a small file for every family."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import disturbed, lively_detector, make_images, needs_onnx
from int8_effects import effects_of
from yolodet.detector.export.formats import onnx as onnx_format
from yolodet.detector.export.formats.interface import Settings
from yolodet.detector.export.formats.writers import WRITERS
from yolodet.detector.export.graph import ExportGraph, Shape
from yolodet.detector.export.int8.onnx import OnnxNetwork
from yolodet.detector.export.int8.quantizer import expected_gain
from yolodet.detector.export.int8.ranges import find_ranges
from yolodet.detector.models.build import build
from yolodet.detector.models.detector import Detector
from yolodet.detector.options.formats import FORMATS, missing_packages
from yolodet.detector.run.hardware import DeviceTraits

pytestmark = needs_onnx
RIGS = Path(__file__).parents[1] / "rigs"


def float_network(folder: Path, model: Detector, side: int, *, nms: bool = False) -> OnnxNetwork:
    path = folder / "float.onnx"
    onnx_format.write(ExportGraph(model, nms=nms), path, Settings(Shape((side, side))), {})
    return OnnxNetwork(path)


def inputs_of(count: int, side: int) -> list[np.ndarray]:
    images = make_images(count, (side, side), seed=30)
    return [image[None].float().div(255).numpy() for image in images]


@pytest.mark.parametrize(("name", "nms"), [("yolov9t", True), ("yolox_nano", False)])
def test_int8_files_are_small_with_nms_inside_too(name: str, nms: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = float_network(tmp_path, build(name, 80).eval(), 64, nms=nms)
    whole, weights = tmp_path / "whole.onnx", tmp_path / "weights.onnx"
    ranges = find_ranges(network, inputs_of(1, 64), "minmax")
    network.save(ranges, network.layers, whole, {})
    network.save_weights(weights, {})
    size = network.source.stat().st_size
    assert whole.stat().st_size <= 0.35 * size
    assert weights.stat().st_size <= 0.35 * size


@pytest.mark.parametrize("name", ["onnx", "openvino", "tflite"])
def test_a_file_with_nms_holds_little_beside_the_weights(name: str, tmp_path: Path) -> None:
    """A folded mask of NMS, 1024 x 1024 numbers, is as large as the smallest models."""
    row = FORMATS[name]
    if missing := missing_packages(row):
        pytest.skip(f"needs {', '.join(missing)}")
    model = build("yolox_nano", 80).eval()
    path = tmp_path / f"float{row.suffix}"
    WRITERS[name].write(ExportGraph(model, nms=True), path, Settings(Shape((320, 320))), {})
    weights = 4 * sum(p.numel() for p in model.parameters())
    assert sum(file.stat().st_size for file in row.files(path)) <= 1.15 * weights


def avx2_only(folder: Path) -> Path:
    """The library that hides newer instructions, or the test is skipped."""
    library = folder / "avx2_only.so"
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("hiding instructions needs Linux and a C compiler")
    source = RIGS / "avx2_only.c"
    command = [compiler, "-O1", "-shared", "-fPIC", str(source), "-o", str(library), "-ldl"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("avx2_only.c does not compile on this machine")
    hidden = {**os.environ, "LD_PRELOAD": str(library)}
    if subprocess.run(["true"], env=hidden, check=False).returncode:
        pytest.skip("this processor or kernel has no CPUID faulting")
    return library


def test_export_says_what_to_expect_of_int8_on_this_processor() -> None:
    with_vnni = expected_gain(DeviceTraits("cpu", "AVX512", int8_native=True))
    without = expected_gain(DeviceTraits("cpu", "AVX2"))
    assert "(AVX512, VNNI): expect 0.3x the size and 1.4x to 2.4x the speed" in with_vnni
    assert "(AVX2, no VNNI): expect 0.3x the size and 1.1x to 1.5x the speed" in without


def test_effects_of_stages_are_equal_with_and_without_vnni(tmp_path: Path) -> None:
    """Of the usual detector, and of one with a sensitive layer."""
    library = avx2_only(tmp_path)
    np.save(tmp_path / "inputs.npy", np.stack(inputs_of(4, 96)))
    files = [str(tmp_path / "inputs.npy")]
    for name, model in (("usual", lively_detector()), ("disturbed", disturbed())):
        (tmp_path / name).mkdir()
        files.append(str(float_network(tmp_path / name, model, 96).source))
    done = subprocess.run(
        [sys.executable, RIGS / "int8_effects.py", *files],
        env={**os.environ, "LD_PRELOAD": str(library)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    vnni, masked = json.loads(done.stdout.splitlines()[-1])
    assert vnni is False
    for path, effects in effects_of(*files).items():
        assert len(effects) > 5
        assert masked[path] == pytest.approx(effects, rel=0.02)  # 1.28 times in 16-bit sums
