"""The time of each part of a training epoch.

    python benchmarks/profile_epoch.py data=../shared/data/bccd/bccd.yaml imgsz=320 [amp=bf16 ...]
        [--json]

Takes the words of `det train`, trains two epochs without checkpoints and pictures, and prints the
second: the parts of a step by wrapping what the trainer calls, the rest by subtraction.  For a CPU:
a GPU computes asynchronously (gpu.py times the GPU itself).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from yolodet.detector.options.argv import read_words
from yolodet.detector.options.parse import parse
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.ladder import choose_precision
from yolodet.detector.run.log import Log
from yolodet.detector.train.assemble import assemble
from yolodet.detector.train.evaluator import CocoEvaluator
from yolodet.detector.train.trainer import Trainer

SPENT: dict[str, float] = defaultdict(float)


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, with its time added to ``name``."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            SPENT[name] += time.perf_counter() - started

    return wrapper


def timed_batches(batches: Iterator[Any]) -> Iterator[Any]:
    """The same batches; the wait for each counts as loader."""
    while True:
        batch = timed("loader: images, augmentation", lambda: next(batches, None))()
        if batch is None:
            return
        yield batch


def main() -> None:
    usual = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=usual)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("words", nargs="*", help="words of det train, such as data=my.yaml")
    options = parser.parse_args()
    facts = profile(options.words)
    if options.json:
        print(json.dumps(facts))
        return
    seconds = facts["seconds"]
    total = sum(seconds.values())
    print(f"second epoch, {facts['precision']}, {facts['images']} images:")
    for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"  {name:30} {value:7.2f} s  {100 * value / total:5.1f} %")
    print(f"  {'epoch':30} {total:7.2f} s, validation {facts['val_s']:.2f} s more")
    print(f"  outside forward and backward: {100 * facts['outside']:.1f} %")


def profile(words: list[str]) -> dict[str, Any]:
    """Train two epochs; seconds of each part of the second, and the share of it that is neither
    forward nor backward.  words: those of `det train`."""
    words = ["train", *words, "epochs=2", "plots=False", "save=False", "close_mosaic=0"]
    config, _ = parse(TrainConfig, read_words(words).words)
    log = Log(verbose=False)
    run = assemble(config, log)
    decision = choose_precision(
        config, run.model, run.criterion, lambda: run.train_loader.epoch(0), run.device, log
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(run, decision, Path(folder), log)
        instrument(trainer)
        trainer.fit()
    run.close()
    rows = trainer.at.rows
    val_s = SPENT.pop("validation", 0.0)
    total = rows[1]["time"] - rows[0]["time"] - val_s
    seconds = {**SPENT, "the rest of the loop": total - sum(SPENT.values())}
    return {
        "images": len(run.train.records),
        "precision": decision.precision.name,
        "seconds": seconds,
        "val_s": val_s,
        "outside": 1.0 - (seconds["forward"] + seconds["backward"]) / total,
    }


def instrument(trainer: Trainer) -> None:
    """Wrap what the trainer calls; the sums are cleared when the second epoch starts."""
    run, step = trainer.run, trainer.step
    epoch = run.train_loader.epoch

    def batches(number: int, start_step: int = 0) -> Iterator[Any]:
        SPENT.clear()
        return timed_batches(epoch(number, start_step=start_step))

    run.train_loader.epoch = batches  # type: ignore[method-assign]
    step.forward = timed("forward", step.forward)
    criterion = timed("loss, assignment", step.criterion)  # of the training alone
    criterion.part_names = step.criterion.part_names  # type: ignore[attr-defined]
    step.criterion = criterion  # type: ignore[assignment]
    torch.Tensor.backward = timed("backward", torch.Tensor.backward)  # type: ignore[method-assign]
    run.optimizer.step = timed("optimizer", run.optimizer.step)  # type: ignore[method-assign]
    if run.ema is not None:
        run.ema.update = timed("moving average", run.ema.update)  # type: ignore[method-assign]
    trainer.guard.before = timed("guard: copies", trainer.guard.before)  # type: ignore[method-assign]
    CocoEvaluator.__call__ = timed("validation", CocoEvaluator.__call__)  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
