"""A stand-in for the sanity check, and trials it hands out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from known_hardware import ZEN4
from tiny import make_batch, make_criterion, tiny_detector
from yolodet.datasets.nouns import Batch
from yolodet.detector.options.parse import parse
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision import ladder
from yolodet.detector.precision.ladder import Decision, choose_precision
from yolodet.detector.precision.probe import StageError
from yolodet.detector.precision.sanity import Trial
from yolodet.detector.run.hardware import DeviceTraits
from yolodet.detector.run.log import Log
from yolodet.detector.run.words import labeled

CPU = torch.device("cpu")
STAGE = StageError(output=0.01, cosine=0.999, peak=3.0, lost=0.001, count=100)
FP32 = Trial("fp32", 10.0, 0.0, 0.0, True, 1.0, {}, 0.0, 0.0, 100.0, 1000, 0)
BF16 = Trial("bf16", 10.0, 0.001, 0.001, True, 1.0, {"head": STAGE}, 0.001, 0.1, 65.0, 540, 0)
FP16 = replace(BF16, precision="fp16", scale=65536.0, step_ms=50.0)


class Checks:
    """Stands in for SanityCheck: hands out trials, remembers what it was asked."""

    def __init__(self, *trials: Trial) -> None:
        self.trials = {trial.label: trial for trial in (FP32, BF16, FP16, *trials)}
        self.asked: list[tuple[str, ...]] = []
        self.sizes: list[int] = []

    def __call__(self, model: Any, criterion: Any, batch: Batch) -> Checks:
        self.sizes.append(len(batch))
        return self

    def run(self, wanted: Mapping[str, tuple[str, ...]]) -> list[Trial]:
        self.asked.append(tuple(wanted))
        return [self.trials[labeled(*each)] for each in (("fp32", ()), *wanted.items())]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    checks = Checks()
    monkeypatch.setattr(ladder, "SanityCheck", checks)
    return checks


def choose(
    amp: Any, traits: DeviceTraits | None = ZEN4, *, batch: Batch | None = None,
    model: Any = None, log: Log | None = None, fresh: bool = True, **words: Any,
) -> Decision:  # fmt: skip
    """The decision for ``amp=...`` on a device with ``traits``."""

    def batches() -> Iterator[Batch]:
        yield make_batch(2) if batch is None else batch
        raise AssertionError("only the first batch may be taken")

    config, _ = parse(TrainConfig, {"amp": amp, **words})
    return choose_precision(
        config,
        tiny_detector() if model is None else model,
        make_criterion(),
        batches,
        CPU,
        log or Log(verbose=False),
        fresh=fresh,
        traits=traits,
    )


def shown(decision: Decision) -> tuple[str, tuple[str, ...]]:
    return decision.precision.name, decision.rungs
