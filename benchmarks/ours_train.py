"""Trains like `det train` and prints one line of JSON with the times of each epoch.

    python benchmarks/ours_train.py data=... epochs=3 imgsz=320 [--cache-budget BYTES]

The first epoch warms up and is not in the lists.  train_s: the batches of an epoch.  train_cpu_s:
the processor's time in them, on all cores.  epoch_s: all of it, with validation and checkpoints.
val_s: validation and metrics.  Other programs call it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import yolodet  # noqa: F401  it says how threads wait, which torch reads when it is loaded

# isort: split
import torch
from yolodet.detector.options.argv import read_words
from yolodet.detector.options.parse import parse
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.ladder import choose_precision
from yolodet.detector.run.device import synchronize
from yolodet.detector.run.log import Log
from yolodet.detector.train import assemble as assembling
from yolodet.detector.train.evaluator import CocoEvaluator, Measured
from yolodet.detector.train.trainer import Trainer


class TimedTrainer(Trainer):
    """A trainer that times its levels."""

    def __init__(self, *arguments: Any, **words: Any) -> None:
        super().__init__(*arguments, **words)
        self.train_s: list[float] = []
        self.train_cpu_s: list[float] = []
        self.epoch_s: list[float] = []
        self.images = 0
        self._began = 0.0

    def _train_epoch(self, *arguments: Any, **words: Any) -> None:
        self._began, cpu = time.perf_counter(), time.process_time()
        super()._train_epoch(*arguments, **words)
        synchronize(self.run.device)
        self.train_cpu_s.append(time.process_time() - cpu)
        self.train_s.append(time.perf_counter() - self._began)
        self.images = int(self.at.sums["images"])

    def _finish_epoch(self) -> None:
        super()._finish_epoch()
        self.epoch_s.append(time.perf_counter() - self._began)


class TimedEvaluator(CocoEvaluator):
    """An evaluator with a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.speed: dict[str, float] = {}

    def __call__(self, *arguments: Any, **words: Any) -> Measured:
        started = time.perf_counter()
        measured = super().__call__(*arguments, **words)
        self.seconds.append(time.perf_counter() - started)
        if measured.evaluation is not None:
            self.speed = measured.evaluation.speed
        return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cache-budget", type=int, help="bytes that decoded images may take")
    options, words = parser.parse_known_args()
    if options.cache_budget is not None:
        assembling.memory_budget = lambda *_: options.cache_budget
    words = read_words(["train", *words, "plots=False", "patience=0", "close_mosaic=0"]).words
    config, _ = parse(TrainConfig, words)
    log = Log(verbose=False)
    run = assembling.assemble(config, log)
    decision = choose_precision(
        config, run.model, run.criterion, lambda: run.train_loader.epoch(0), run.device, log
    )
    with tempfile.TemporaryDirectory() as folder:
        evaluator = TimedEvaluator()
        trainer = TimedTrainer(run, decision, Path(folder), log, evaluator=evaluator)
        trainer.fit()
    run.close()
    facts = {
        "images": trainer.images,
        "val_images": len(run.val.records),
        "train_s": trainer.train_s[1:],
        "train_cpu_s": trainer.train_cpu_s[1:],
        "epoch_s": trainer.epoch_s[1:],
        "val_s": evaluator.seconds[1:],
        "val_ms_an_image": evaluator.speed,
        "precision": decision.precision.name,
        "threads": torch.get_num_threads(),
        "cache": run.train_loader.dataset.cache.describe(),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
