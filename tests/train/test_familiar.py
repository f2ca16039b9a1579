"""How well the starting weights see the objects of a run, and the learning rate that follows."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from yolodet.detector.evaluate.postprocess import Detections
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.run.log import Log
from yolodet.detector.run.ranks import ALONE
from yolodet.detector.train import familiar
from yolodet.detector.train.familiar import familiarity, settle_rate

CPU = torch.device("cpu")


class Source(nn.Module):
    """A detector that answers with what was planted."""

    branches = ("one_to_one",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor, branches: Any) -> torch.Tensor:
        return images


class Images:
    """Two batches of two images with one box each, [0, 0, 10, 10]."""

    def epoch(self, number: int) -> list[Any]:
        boxes, places = torch.tensor([[0.0, 0, 10, 10]] * 2), torch.tensor([0, 1])

        class Pair(SimpleNamespace):
            def __len__(self) -> int:
                return 2

        return [Pair(images=torch.zeros(2), boxes=boxes, batch_index=places) for _ in range(2)]


def found(boxes: list[list[float]], scores: list[float]) -> Detections:
    return Detections(
        torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.arange(len(scores))
    )


def plant(monkeypatch: pytest.MonkeyPatch, sure: float) -> None:
    """Of four boxes two are found with the score ``sure``, one loosely, and one not at all."""
    loose = found([[0, 0, 5, 9], [50, 50, 60, 60]], [0.9, 0.8])  # 0.45 of the box
    both = found([[0, 0, 10, 6], [0, 0, 10, 10], [0, 0, 9, 9]], [sure, sure / 2, sure / 3])
    answers = iter([[both, loose], [found([], []), found([[0, 0, 10, 9]], [sure])]])
    monkeypatch.setattr(familiar, "postprocess", lambda *_: next(answers))


def test_the_best_score_on_each_box_counts_whatever_the_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch, 0.6)
    assert familiarity(Source(), Images()) == pytest.approx((0.6 + 0 + 0 + 0.6) / 4)


@pytest.mark.parametrize("sure, rate", [(0.6, 0.1), (0.21, 0.1), (0.19, 0.25), (0.01, 0.25)])
def test_known_objects_get_the_smaller_rate(
    monkeypatch: pytest.MonkeyPatch, sure: float, rate: float
) -> None:
    plant(monkeypatch, sure)
    settled = settle_rate(TrainConfig(), Source(), Images(), CPU, ALONE, Log(verbose=False))
    assert settled == replace(TrainConfig(), lr_transferred=rate)


@pytest.mark.parametrize("words", [{"lr_transferred": 0.7}, {}])
def test_a_given_rate_and_a_run_from_scratch_are_not_measured(
    words: dict[str, Any],
) -> None:
    source = None if not words else Source()  # Images of None would raise
    settled = settle_rate(TrainConfig(**words), source, None, CPU, ALONE, Log(verbose=False))
    assert settled.lr_transferred == words.get("lr_transferred", 0.25)
