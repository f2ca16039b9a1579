"""A detector of a few convolutions that has all the trainer asks of one, and batches for it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from yolodet.datasets.sample import Batch
from yolodet.datasets.shapes import write_shapes
from yolodet.detector import api
from yolodet.detector.config import TrainConfig
from yolodet.detector.log import Log
from yolodet.detector.losses.detection import DetectionLoss, Gains
from yolodet.detector.models import restore
from yolodet.detector.models.blocks import Conv
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.head import STRIDES, Branch, Head
from yolodet.detector.models.predictions import ONE_TO_MANY, ONE_TO_ONE
from yolodet.detector.models.pyramid import Backbone
from yolodet.detector.parse import parse
from yolodet.detector.train import assemble

NAN = float("nan")
CPU_BF16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()

needs_bf16 = pytest.mark.skipif(not CPU_BF16, reason="this CPU has no bf16 instructions")


def tiny_detector(num_classes: int = 2, name: str = "yolo26n") -> Detector:
    """Eleven thousand parameters in four stages and two head branches; weights from torch's
    generator."""
    backbone = Backbone(
        {
            "stem": Conv(3, 8, 3, 4),
            "stage3": Conv(8, 16, 3, 2),
            "stage4": Conv(16, 24, 3, 2),
            "stage5": Conv(24, 24, 3, 2),
        }
    )
    many = Branch((16, 24, 24), lambda c: tower(c, 4), lambda c: tower(c, num_classes))
    many.set_biases(STRIDES, num_classes, box_bias=2.0)
    head = Head({ONE_TO_MANY: many, ONE_TO_ONE: copy.deepcopy(many)})
    return Detector(name, num_classes, backbone, nn.Identity(), head)


def tower(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(Conv(c_in, 16), nn.Conv2d(16, c_out, 1))


def use_tiny_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever builds yolo26n gets the tiny one; and torch keeps the threads it was given."""

    def build(name: str, num_classes: int, class_width: int | None = None) -> Detector:
        return tiny_detector(num_classes, name)

    for place in (assemble, restore):
        monkeypatch.setattr(place, "build", build)
    keep_threads(monkeypatch)


def keep_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training does not take all cores: the same numbers wherever the tests run."""
    for place in (assemble, api):
        monkeypatch.setattr(place, "use_all_cores", lambda: None)


def make_batch(count: int, size: int = 64, num_classes: int = 2, seed: int = 0) -> Batch:
    """Noise with two boxes in each image; image ``i`` is called ``i.jpg``."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    corners = torch.rand(2 * count, 2, generator=generator) * size / 2
    return Batch(
        images=images.contiguous(memory_format=torch.channels_last),
        boxes=torch.cat((corners, corners + size / 3), 1),
        labels=torch.randint(0, num_classes, (2 * count,), generator=generator),
        batch_index=torch.arange(count).repeat_interleave(2),
        indices=list(range(count)),
        paths=[Path(f"{i}.jpg") for i in range(count)],
        original_sizes=[(size, size)] * count,
        letterboxes=[None] * count,
    )


def make_criterion() -> DetectionLoss:
    return DetectionLoss(Gains())


def hooked(module: nn.Module, change: Callable[[Tensor], Tensor], when: Callable[[], bool]) -> Any:
    """What ``module`` says is ``change``d while ``when()``; copies of the module do the same."""

    def hook(_: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        return change(output) if when() else None

    return module.register_forward_hook(hook)


def casts_to(dtype: torch.dtype) -> Callable[[], bool]:
    """Whether autocast on the CPU computes in ``dtype`` right now."""
    return lambda: torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == dtype


def write_tiny_data(folder: Path, train: int = 6, val: int = 3) -> Path:
    """Drawn scenes of at most 96 pixels; returns the YAML."""
    return write_shapes(folder, train=train, val=val, size=96)


def train_config(data: Path, project: Path, **words: Any) -> tuple[TrainConfig, frozenset[str]]:
    """A run of 64 pixels on the CPU that draws no pictures, changed by ``words``."""
    usual = {
        "data": str(data), "project": str(project), "device": "cpu", "imgsz": 64, "batch": 3,
        "epochs": 2, "workers": 0, "plots": False, "amp": "false", "cache": "ram",
    }  # fmt: skip
    return parse(TrainConfig, {**usual, **words})


def train(data: Path, project: Path, **words: Any) -> dict[str, Any]:
    """Train as ``det train`` would; ``resume=...`` goes on with a run instead."""
    config, given = train_config(data, project, **words)
    if "resume" in words:
        given = frozenset(words)
    return api.train(config, given, Log(verbose=False))


def snapshot(state: Any) -> Any:
    """A deep copy of nested plain data and tensors."""
    return copy.deepcopy(state)


def same(a: Any, b: Any) -> bool:
    """Equality of nested plain data, tensors bit for bit (so that NaN equals NaN)."""
    if isinstance(a, Tensor):
        alike = isinstance(b, Tensor) and (a.shape, a.dtype) == (b.shape, b.dtype)
        return alike and torch.equal(bits(a), bits(b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b) or (a != a and b != b)


def bits(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, in the order of its elements."""
    return tensor.contiguous().flatten().view(torch.uint8)
