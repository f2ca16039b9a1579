"""A small detector that tells anchors apart, its checkpoint, and det export without a process."""

from __future__ import annotations

import copy
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny import tiny_detector, use_tiny_detector
from torch import Tensor, nn
from yolodet.cli import main
from yolodet.detector.evaluate.postprocess import postprocess
from yolodet.detector.export.check import check_options
from yolodet.detector.export.export import export
from yolodet.detector.models.detector import Detector
from yolodet.detector.options.detect import DetectOptions
from yolodet.detector.options.export import ExportConfig
from yolodet.detector.options.formats import FORMATS, missing_packages
from yolodet.detector.options.parse import parse
from yolodet.detector.run.log import Log
from yolodet.weights.checkpoint import Meta, save_weights

if importlib.util.find_spec("onnxscript"):
    from torch.onnx._internal.exporter import _registration

    operators = _registration.onnxscript_apis
    if not hasattr(operators.get_torchlib_ops, "cache_info"):
        operators.get_torchlib_ops = cache(operators.get_torchlib_ops)
"""The table of operators is the same for every export: a fifth of the time of a small one."""

CLASS_NAMES = ("clock", "kite", "bus & tram")
IMAGE_SIZE = 96
RUN_HERE = [
    pytest.param(row.name, marks=needs) for row in FORMATS.values()
    if row.run_here and (needs := pytest.mark.skipif(
        bool(missing_packages(row)), reason=f"format={row.name} needs {row.packages}"))
]  # fmt: skip
"""Formats that can be run where the tests are."""
FREE = [each for each in RUN_HERE if FORMATS[str(each.values[0])].dynamic]
"""Those that take any size."""
needs_onnx = pytest.mark.skipif(bool(missing_packages(FORMATS["onnx"])), reason="needs onnx")


def make_image(size: tuple[int, int], seed: int) -> np.ndarray:
    """Soft patches of color, [H,W,3] uint8."""
    patches = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return cv2.resize(patches, size[::-1], interpolation=cv2.INTER_CUBIC)


def make_images(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """[N,3,H,W] uint8."""
    images = np.stack([make_image(size, seed + i) for i in range(count)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def enliven(model: Detector) -> Detector:
    """Norms that fit images, and heads whose scores differ from anchor to anchor.  In place."""
    torch.manual_seed(0)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # take the statistics of the one batch below
    with torch.no_grad():
        model.train()(make_images(8, (96, 96), seed=50))
        for branch in model.branches:
            head = model.head.get_submodule(branch)
            for tower in (*head.boxes, *head.classes):
                tower[-1].weight.normal_(0, 0.3 / tower[-1].in_channels ** 0.5)
            for tower in head.classes:
                tower[-1].bias.fill_(0.0)
        for branch, found in model.eval()(make_images(8, (96, 96), seed=50)).items():
            low, high = found.logits.quantile(torch.tensor([0.5, 0.95])).tolist()
            gain = 2 / (high - low)
            for tower in model.head.get_submodule(branch).classes:
                tower[-1].weight.mul_(gain)
                tower[-1].bias.fill_(-1.1 - gain * high)  # one in twenty scores more than 0.25
    return model.eval()


@cache
def lively_detector() -> Detector:
    """The tiny detector, made lively.  Shared: do not change it."""
    torch.manual_seed(0)
    return enliven(tiny_detector(len(CLASS_NAMES)))


def make_meta(**changes: Any) -> Meta:
    values = {
        "model": "yolo26n", "class_names": CLASS_NAMES, "image_size": IMAGE_SIZE,
        "strides": (8, 16, 32), "precision": "fp32", "provenance": "made by a <test> & more",
    }  # fmt: skip
    return Meta(**{**values, **changes})


def save_checkpoint(folder: Path, **changes: Any) -> Path:
    """``best.safetensors`` of the lively detector; whoever reads it must build the tiny one."""
    path = folder / "best.safetensors"
    save_weights(path, lively_detector().state_dict(), make_meta(**changes))
    return path


def make_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``weights`` of the only run below ``folder``, which is the current one."""
    use_tiny_detector(monkeypatch)
    monkeypatch.chdir(folder)
    weights = folder / "runs" / "train" / "weights"
    weights.mkdir(parents=True)
    save_checkpoint(weights)
    return weights


def refused(capsys: pytest.CaptureFixture[str], *typed: str) -> str:
    """The one line that a wrong command is answered with."""
    assert main(["export", *typed]) in (1, 2)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("det: error: ")
    return lines[-1].removeprefix("det: error: ")


def run_export(
    folder: Path, model: Detector | None = None, meta: Meta | None = None, **words: Any
) -> dict[str, Any]:
    """Export ``model`` (default: the lively one) as if it were ``folder/best.safetensors``."""
    config, given = parse(ExportConfig, {"verbose": False, **words})
    check_options(config, given)
    checkpoint = folder / "best.safetensors"
    return export(
        config, checkpoint, meta or make_meta(), model or lively_detector(), fetched=False,
        log=Log(verbose=False),
    )  # fmt: skip


def write_data(folder: Path) -> Path:
    """data.yaml of eight images whose labels are what the detector sees there."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    images = make_images(8, (IMAGE_SIZE, IMAGE_SIZE), seed=20)
    with torch.inference_mode():
        found = postprocess(lively_detector()(images), DetectOptions(conf=0.0, max_det=40))
    for number, (image, each) in enumerate(zip(images, found, strict=True)):
        path = folder / "images" / f"{number}.png"
        assert cv2.imwrite(str(path), image.permute(1, 2, 0).numpy()[..., ::-1])
        boxes = each.boxes[:40:4].clamp(0, 96).numpy()
        rows = [
            f"{label} {(b[0] + b[2]) / 192} {(b[1] + b[3]) / 192} "
            f"{(b[2] - b[0]) / 96} {(b[3] - b[1]) / 96}\n"
            for b, label in zip(boxes, each.labels[:40:4].tolist(), strict=True)
            if (b[2:] > b[:2] + 1).all()
        ]
        (folder / "labels" / f"{number}.txt").write_text("".join(rows))
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(CLASS_NAMES))
    (folder / "data.yaml").write_text(f"train: images\nval: images\nnames:\n{names}")
    return folder / "data.yaml"


def disturbed() -> Detector:
    """The lively detector with one channel of ``one_to_one.classes.0`` a thousand times as large,
    which the next layer takes back."""
    model = copy.deepcopy(lively_detector())
    first, last = model.head.get_submodule("one_to_one").classes[0]
    with torch.no_grad():
        first.norm.weight[3] *= 1000
        first.norm.bias[3] *= 1000
        last.weight[:, 3] /= 1000
    return model.eval()
