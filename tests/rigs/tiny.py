"""A detector of a few convolutions that has all the trainer asks of one, and batches for it."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from yolodet.datasets.drawn.shapes import write_shapes
from yolodet.datasets.nouns import Batch
from yolodet.detector.checkpoints import evaluate
from yolodet.detector.losses.detection import DetectionLoss, Gains, LossOutput
from yolodet.detector.models import yolo26
from yolodet.detector.models.blocks import Conv
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.head import STRIDES, Branch, Head
from yolodet.detector.models.predictions import ONE_TO_MANY, ONE_TO_ONE
from yolodet.detector.models.pyramid import Backbone
from yolodet.detector.options.parse import parse
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.options.val import ValConfig
from yolodet.detector.precision.ladder import Decision
from yolodet.detector.precision.precision import Precision
from yolodet.detector.run.folder import BEST, LAST
from yolodet.detector.run.hardware import traits_of
from yolodet.detector.run.log import Log
from yolodet.detector.run.observer import Observers
from yolodet.detector.run.results_csv import ResultsCsv
from yolodet.detector.run.terminal import Terminal
from yolodet.detector.train import pipeline
from yolodet.detector.train.assemble import assemble
from yolodet.detector.train.step import StepOutput, TrainStep
from yolodet.detector.train.trainer import Trainer
from yolodet.weights.checkpoint import load_state, load_weights

NAN = float("nan")
STEPS = 4
"""Batches an epoch of the fixture ``shapes``: 12 images, 3 at a time."""
CPU_BF16 = traits_of(torch.device("cpu")).bf16_native

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
    monkeypatch.setattr(yolo26, "build", lambda size, classes: tiny_detector(classes))
    keep_threads(monkeypatch)


def keep_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training does not take all cores: the same numbers wherever the tests run."""
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)


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


def hooked(module: nn.Module, change: Callable[[Any], Any], when: Callable[[], bool]) -> Any:
    """What ``module`` says is ``change``d while ``when()``; copies of the module do the same."""

    def hook(_: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        return change(output) if when() else None

    return module.register_forward_hook(hook)


def overflowing(stage: nn.Module) -> None:
    """Scale the weights of a stage's convolutions until their outputs are too large for fp16; the
    batch norms behind them bring these back to size in float32."""
    with torch.no_grad():
        for layer in stage.modules():
            if isinstance(layer, Conv):
                layer.conv.weight.mul_(3e5)


def casts_to(dtype: torch.dtype) -> Callable[[], bool]:
    """Whether autocast on the CPU computes in ``dtype`` right now."""
    return lambda: torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == dtype


IN_BF16, IN_FP16 = casts_to(torch.bfloat16), casts_to(torch.float16)


def write_tiny_data(folder: Path, train: int = 6, val: int = 3) -> Path:
    """Drawn scenes of at most 96 pixels; returns the YAML."""
    return write_shapes(folder, train=train, val=val, size=96)


def write_squares(folder: Path) -> Path:
    """One bright square in each of eight dark images of 64 pixels, and four to validate; returns
    the YAML."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            side = int(rng.integers(20, 33))
            x, y = rng.integers(0, 64 - side, 2).tolist()
            image = np.full((64, 64, 3), 20, np.uint8)
            image[y : y + side, x : x + side] = 235
            assert cv2.imwrite(str(folder / "images" / split / f"{number}.png"), image)
            row = [(x + side / 2) / 64, (y + side / 2) / 64, side / 64, side / 64]
            text = " ".join(str(value) for value in (0, *row))
            (folder / "labels" / split / f"{number}.txt").write_text(text + "\n")
    (folder / "data.yaml").write_text(
        "train: images/train\nval: images/val\nnames:\n  0: square\n"
    )
    return folder / "data.yaml"


def train_config(data: Path, project: Path, **words: Any) -> tuple[TrainConfig, frozenset[str]]:
    """A run of 64 pixels on the CPU that draws no pictures, changed by ``words``."""
    usual = {
        "data": str(data), "project": str(project), "device": "cpu", "imgsz": 64, "batch": 3,
        "epochs": 2, "workers": 0, "plots": False, "amp": False, "cache": "ram",
    }  # fmt: skip
    return parse(TrainConfig, {**usual, **words})


def train(data: Path, project: Path, **words: Any) -> dict[str, Any]:
    """Train as ``det train`` would; ``resume=...`` goes on with a run instead."""
    seams = {name: words.pop(name) for name in ("observers", "evaluator") if name in words}
    config, given = train_config(data, project, **words)
    if "resume" in words:
        given = frozenset(words)
    return pipeline.train(config, given, Log(verbose=False), **seams)


def finished(folder: Path) -> bool | None:
    """What results.json says; None where there is none."""
    report = folder / "results.json"
    return not json.loads(report.read_text())["stopped"] if report.exists() else None


def val(**words: Any) -> dict[str, Any]:
    """Validate as ``det val`` would."""
    config, given = parse(ValConfig, {"workers": 0, "plots": False, "device": "cpu", **words})
    return evaluate.val(config, given, Log(verbose=False))


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


# ---------------------------------------------------------------- runs with faults in them


def make_trainer(
    data: Path, folder: Path, precision: str = "fp32", rungs: tuple[str, ...] = (), **words: Any
) -> Trainer:
    """A run in ``precision``; no image is mixed with another, so that a name says it all."""
    config, _ = train_config(data, folder, **{"nbs": 3, "mosaic": 0.0, **words})
    decision = Decision(Precision(precision, "cpu", "as told"), rungs, [], {})
    log = Log(verbose=False)
    log.to_file(folder / "log.txt")
    observers = Observers([ResultsCsv(), Terminal(log)], log.warn)
    trainer = Trainer(assemble(config, log), decision, folder, log, observers)
    if precision == "fp16":  # a loss scale of 2^16 is too large for this little detector
        trainer.step.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    return trainer


class Poison(DetectionLoss):
    """The loss of a batch is NaN, and its box part with it, where ``bad(batch)`` says so."""

    def __init__(self, bad: Callable[[Batch], bool]) -> None:
        super().__init__(Gains())
        self.bad = bad

    def __call__(self, outputs: Any, batch: Batch) -> LossOutput:
        output = super().__call__(outputs, batch)
        if not self.bad(batch):
            return output
        parts = {**output.parts, "box": output.parts["box"] * NAN}
        return replace(output, total=output.total * NAN, parts=parts)


def poison(trainer: Trainer, bad: Callable[[Batch], bool]) -> None:
    """Let the run learn with ``Poison``."""
    trainer.run.criterion = trainer.step.criterion = Poison(bad)


def holding(name: str) -> Callable[[Batch], bool]:
    """Whether the image called ``name`` is in a batch."""
    return lambda batch: name in {path.name for path in batch.paths}


def image_at(trainer: Trainer, batch: int, epoch: int = 0) -> str:
    """Name of the first image of a batch."""
    return list(trainer.run.train_loader.epoch(epoch))[batch].paths[0].name


def fail_in_bf16(trainer: Trainer, epoch: int, batch: int) -> None:
    """The neck, which is in no stage here, says NaN in bf16 from that batch of the run on."""

    def late() -> bool:
        return IN_BF16() and (trainer.at.epoch, trainer.at.batch) >= (epoch, batch)

    hooked(trainer.run.model.neck, lambda features: tuple(x * NAN for x in features), late)


def watch(trainer: Trainer) -> list[tuple[int, int, bool, str]]:
    """A list that gets (epoch, batch, eager, precision) of every step that is tried."""
    tried: list[tuple[int, int, bool, str]] = []

    class Watched(TrainStep):
        def __call__(self, batch: Batch, *, update: bool, eager: bool) -> StepOutput:
            tried.append((trainer.at.epoch, trainer.at.batch, eager, self.precision.name))
            return super().__call__(batch, update=update, eager=eager)

    trainer.step.__class__ = Watched
    return tried


def essence(trainer: Trainer) -> Any:
    """All of a run's state but times and what belongs to a machine or folder."""
    return timeless(snapshot(trainer.state_dict()))


def saved(folder: Path) -> Any:
    """The same of the last checkpoint on disk."""
    return timeless(load_state(folder / LAST))


def timeless(state: Any) -> Any:
    """``state`` without times and what belongs to a machine or folder; changed in place."""
    for name in ("seconds", "sums"):
        state["position"].pop(name)
    for row in state["position"]["rows"]:
        row.pop("time"), row.pop("images_per_s")
    for name in ("project", "workers", "resume", "save_steps"):
        state["config"].pop(name)
    state["meta"]["config"].pop("save_steps", None)
    return state


def rows_of(folder: Path) -> list[dict[str, str]]:
    """results.csv."""
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def learned(folder: Path) -> list[dict[str, str]]:
    """results.csv without times."""
    timed = ("time", "images_per_s")
    return [{k: v for k, v in row.items() if k not in timed} for row in rows_of(folder)]


def assert_all_finite(folder: Path) -> None:
    """No NaN is in any checkpoint of a run."""
    found = [*tensors_of(load_state(folder / LAST)), *tensors_of(load_weights(folder / BEST)[0])]
    assert len(found) > 50
    assert all(bool(t.isfinite().all()) for t in found if t.is_floating_point())


def tensors_of(state: Any) -> list[Tensor]:
    """Every tensor of nested plain data."""
    if isinstance(state, Tensor):
        return [state]
    if isinstance(state, dict):
        state = list(state.values())
    return [t for value in state for t in tensors_of(value)] if isinstance(state, list) else []
