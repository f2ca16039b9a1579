"""Two ranks on the CPU: images/s with DistributedDataParallel beside one all-reduce after the
backward pass, in interleaved rounds, and the time of a validation by one rank and by two.

    python benchmarks/ranks.py [imgsz=96 batch=8 ...]

Takes the words of `det train`.  Each rank has one thread, and the ranks talk by gloo.  Scenes are
drawn; ROUNDS rounds of STEPS steps, of which the fastest and the median are printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

RANKS, ROUNDS, STEPS = 2, 5, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="words of det train, such as imgsz=96")
    words = parser.parse_args().words
    from yolodet.detector.run.launch import launch

    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(launch([sys.executable, __file__, "--rank", folder, *words], RANKS))


def measure(folder: Path, words: list[str]) -> None:
    """One rank of the program."""
    from yolodet.datasets.drawn.shapes import write_shapes
    from yolodet.detector.options.argv import read_words
    from yolodet.detector.options.parse import parse
    from yolodet.detector.options.train import TrainConfig
    from yolodet.detector.run.log import Log
    from yolodet.detector.run.ranks import ALONE
    from yolodet.detector.train.assemble import assemble
    from yolodet.detector.train.data_parallel import forward_of
    from yolodet.detector.train.distributed import join

    with join("cpu") as ranks:
        with ranks.rank0_first():
            if ranks.first:
                write_shapes(folder / "data", train=32, val=64, size=128)
        usual = {"data": str(folder / "data" / "data.yaml"), "device": "cpu", "imgsz": 96,
                 "batch": 8, "workers": 0, "pretrained": "false"}  # fmt: skip
        config, _ = parse(TrainConfig, {**usual, **read_words(["train", *words]).words})
        run = assemble(config, Log(verbose=False), ranks=ranks)
        batch = next(iter(run.train_loader.epoch(0)))
        run.model.train()
        steps = {
            "own all-reduce": one_all_reduce(run),
            "DDP": make_step(run, forward_of(run.model, ranks)),
        }
        rates: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(ROUNDS + 1):
            for name, step in steps.items():
                seconds = timed(ranks, lambda step=step: [learn(step, batch) for _ in range(STEPS)])
                if number:  # the first round warms up
                    rates[name].append(STEPS * len(batch) * ranks.size / seconds)
        lines = [
            f"{name}: median {statistics.median(found):.2f} images/s, best {max(found):.2f}"
            for name, found in rates.items()
        ]
        alone = assemble(config, Log(verbose=False), ranks=ALONE)
        found = {"1 rank": [], "2 ranks": []}
        for _ in range(3):
            work = (lambda: validate(alone)) if ranks.first else (lambda: None)
            found["1 rank"].append(timed(ranks, work))
            found["2 ranks"].append(timed(ranks, lambda: validate(run)))
        lines += [
            f"validation of {len(run.val.records)} images by {name}: median "
            f"{statistics.median(seconds):.2f} s, best {min(seconds):.2f} s"
            for name, seconds in found.items()
        ]
        if ranks.first:
            print("\n".join(lines))


def timed(ranks: Any, work: Callable[[], Any]) -> float:
    """Seconds until all ranks have done ``work``."""
    ranks.wait()
    started = time.perf_counter()
    work()
    ranks.wait()
    return time.perf_counter() - started


def make_step(run: Any, forward: Any) -> Any:
    from yolodet.detector.precision.precision import Precision
    from yolodet.detector.train.step import TrainStep

    precision = Precision("fp32", "cpu", "benchmark")
    return TrainStep(
        run.model, run.criterion, run.optimizer, precision, ema=run.ema, clip=10.0, forward=forward,
        ranks=run.ranks,
    )  # fmt: skip


def one_all_reduce(run: Any) -> Any:
    """A step that sums gradients and averages statistics in one message after the backward pass."""
    import torch

    step = make_step(run, run.model)

    def all_reduce() -> None:
        norms = [m for m in run.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        means = [mean for norm in norms for mean in (norm.running_mean, norm.running_var)]
        tensors = [p.grad for p in step.parameters if p.grad is not None] + means
        whole = run.ranks.sum(torch.cat([tensor.flatten() for tensor in tensors]))
        parts = whole.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))
        torch._foreach_div_(means, run.ranks.size)

    step._average_statistics = all_reduce
    return step


def learn(step: Any, batch: Any) -> None:
    step(replace(batch), update=True, eager=True)


def validate(run: Any) -> None:
    from yolodet.detector.precision.precision import Precision
    from yolodet.detector.run.log import Log
    from yolodet.detector.train.evaluator import CocoEvaluator

    CocoEvaluator()(run.model, Precision("fp32", "cpu", "benchmark"), run, Log(verbose=False))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--rank"]:
        measure(Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
