"""One stage that overflows in fp16: what the AMP check makes of it, what it costs, and the loss.

    python benchmarks/fp32_stages.py [--stage neck.mix_up5] [--steps 40] [--out FOLDER]

The weights of a stage's convolutions are scaled up until it overflows in fp16; batch norms bring
its outputs back to size in float32.  Three questions are answered, each in a file of its own in
the folder, so that a run that was stopped goes on with the next:

- check.json: what the check says of fp16, and with which stages in float32 it passes;
- loss.json: the loss of each step in float32, and in fp16 with these stages in float32, from the
  same weights on the same batches (with a fault in mid-run: the stage is scaled after half the
  steps, and the guard finds it);
- time.json: milliseconds per step of float32, of the half precision that is fast on this device,
  and of the same with the stage in float32: medians of interleaved rounds.

The result is the last line, as JSON.  On a CPU fp16 is slow, so the first two use small images.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from children import kept
from noise import noise_batch
from yolodet.datasets.nouns import Batch
from yolodet.detector.losses.detection import DetectionLoss, Gains
from yolodet.detector.models.blocks import Conv
from yolodet.detector.models.build import build
from yolodet.detector.models.detector import Detector
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.by_stage import try_precisions
from yolodet.detector.precision.precision import Precision
from yolodet.detector.precision.sanity import MAX_LOSS_ERROR, SanityCheck
from yolodet.detector.run.device import pick_device, synchronize
from yolodet.detector.run.hardware import candidates, traits_of
from yolodet.detector.train.guard import find_failure
from yolodet.detector.train.optim import build_optimizer, choose_optimizer, set_learning_rate
from yolodet.detector.train.position import Position
from yolodet.detector.train.step import TrainStep

FACTOR = 3e5
"""That weights are multiplied by: outputs of a convolution exceed 65504."""
CLOSE = 0.10
"""Share by which a step may be slower than in full half precision."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--stage", default="neck.mix_up5")
    parser.add_argument("--device", default=None)
    parser.add_argument("--steps", type=int, default=40, help="of the loss")
    parser.add_argument("--rounds", type=int, default=12, help="of the time")
    parser.add_argument("--imgsz", type=int, default=640, help="of the time")
    parser.add_argument("--batch", type=int, default=16, help="of the time")
    parser.add_argument("--out", type=Path, default=Path("runs/fp32_stages"))
    args = parser.parse_args()
    device = pick_device(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    small = (2, 96) if device.type == "cpu" else (args.batch, args.imgsz)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "check": lambda: check(args, device, small),
        "loss": lambda: losses(args, device, small),
        "time": lambda: times(args, device),
    }
    found = {name: kept(args.out / f"{name}.json", work) for name, work in parts.items()}
    print(json.dumps({"device": str(device), "model": args.model, "stage": args.stage, **found}))


def scaled(model: Detector, stage: str) -> Detector:
    """The model with the stage made to overflow in fp16, in place."""
    with torch.no_grad():
        for layer in model.get_submodule(stage).modules():
            if isinstance(layer, Conv):
                layer.conv.weight.mul_(FACTOR)
    return model


def fresh(name: str, device: torch.device) -> Detector:
    torch.manual_seed(0)
    return build(name, 3).to(device).to(memory_format=torch.channels_last)


def noise(count: int, size: int, device: torch.device, seed: int = 0) -> Batch:
    """Noise with two boxes in each image."""
    return noise_batch(count, size, boxes=2, size=1 / 3, classes=3, seed=seed).to(device)


def step_of(model: Detector, precision: Precision) -> TrainStep:
    optimizer = build_optimizer(model, choose_optimizer(TrainConfig()))
    set_learning_rate(optimizer, 0.1)
    loss = DetectionLoss(Gains())
    step = TrainStep(model.train(), loss, optimizer, precision, ema=None, clip=10.0)
    if precision.name == "fp16":  # where a run arrives after its first, skipped updates
        step.scaler = torch.amp.GradScaler(precision.device_type, init_scale=256.0)
    return step


def check(
    args: argparse.Namespace, device: torch.device, shape: tuple[int, int]
) -> dict[str, Any]:
    """What the AMP check says of fp16 where the stage overflows."""
    model = scaled(fresh(args.model, device), args.stage)
    judge = SanityCheck(model, DetectionLoss(Gains()), noise(*shape, device))
    trials = try_precisions(judge.run, ("fp16",), tuple(model.stages))
    return {
        "whole": trials[1].problem, "by_stage": trials[-1].problem or "passed",
        "fp32_stages": trials[-1].fp32_stages, "loss_error": trials[-1].loss_error,
    }  # fmt: skip


def losses(
    args: argparse.Namespace, device: torch.device, shape: tuple[int, int]
) -> dict[str, Any]:
    """The loss in float32 and in fp16, of a stage that overflows from the beginning and of one that
    does so after half the steps."""
    found = {}
    for title, at in (("from the beginning", 0), ("in mid-run", args.steps // 2)):
        exact, _ = curve(args, device, shape, "fp32", at)
        mixed, stages = curve(args, device, shape, "fp16", at)
        worst = max(abs(a - b) / a for a, b in zip(exact, mixed, strict=True))
        mean = abs(sum(mixed) - sum(exact)) / sum(exact)
        found[title] = {
            "fp32_stages": stages, "worst_step": worst, "mean": mean,
            "within_limit": mean <= MAX_LOSS_ERROR, "fp32": exact, "fp16": mixed,
        }  # fmt: skip
    return found


def curve(
    args: argparse.Namespace, device: torch.device, shape: tuple[int, int], name: str, at: int
) -> tuple[list[float], list[str]]:
    """The loss of each step, and the stages that the guard has put into float32."""
    model = fresh(args.model, device)
    step, curve, number = step_of(model, Precision(name, device.type, "")), list[float](), 0
    while number < args.steps:
        if number == at and len(curve) == number and not step.precision.fp32_stages:
            scaled(model, args.stage)
        batch = noise(*shape, device, seed=number % 8)
        output = step(batch, update=True, eager=True)
        if not bool(output.loss.total.isfinite()):
            told = find_failure(
                model, step.criterion, [batch], step.precision, Position(batch=number), "overflow"
            )
            step.use(Precision(name, device.type, str(told), told.fp32_stages))
            continue
        curve.append(output.loss.total.item() / shape[0])
        number += 1
    return curve, list(step.precision.fp32_stages)


def times(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Milliseconds of a step; ratios are medians over rounds: other programs matter less then."""
    half = (*candidates(traits_of(device)), "bf16")[0]
    plans = {
        "fp32": Precision("fp32", device.type, ""),
        half: Precision(half, device.type, ""),
        "by stage": Precision(half, device.type, "", (args.stage,)),
    }
    batch, model = noise(args.batch, args.imgsz, device), fresh(args.model, device)
    steps = {name: step_of(copy.deepcopy(model), plan) for name, plan in plans.items()}
    rows = []
    for number in range(args.rounds + 1):
        names = list(steps) if number % 2 else list(steps)[::-1]
        rows.append({name: timed(steps[name], batch, device) for name in names})
    rows = rows[1:]  # the first loads kernels
    ratio = statistics.median(row["by stage"] / row[half] for row in rows)
    return {
        "half": half,
        "ms": {name: statistics.median(row[name] for row in rows) for name in steps},
        "speed_of_half": statistics.median(row["fp32"] / row[half] for row in rows),
        "speed_by_stage": statistics.median(row["fp32"] / row["by stage"] for row in rows),
        "by_stage_over_half": ratio, "within_limit": ratio <= 1 + CLOSE,
    }  # fmt: skip


def timed(step: TrainStep, batch: Batch, device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    step(batch, update=True, eager=False)
    synchronize(device)
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
