"""Thresholds of the AMP sanity check, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rows import each
from tiny import make_batch, make_criterion, tiny_detector
from torch import Tensor, nn
from yolodet.detector.models.detector import Detector
from yolodet.detector.precision import sanity
from yolodet.detector.precision.precision import Precision
from yolodet.detector.precision.probe import StageError
from yolodet.detector.precision.sanity import SanityCheck, Trial, find_problem

STAGE = StageError(output=0.01, cosine=0.999, peak=3.0, lost=0.001, count=100)
GOOD = Trial("bf16", 10.0, 0.001, 0.001, True, 1.0, {"head": STAGE}, 0.001, 0.1, 50.0, 10, 0)


def fresh_detector() -> Detector:
    torch.manual_seed(0)
    return tiny_detector()


def with_stage(**changes: float) -> Trial:
    return replace(GOOD, stages={"stem": STAGE, "head": replace(STAGE, **changes)})


@each(
    ("inside", "outside", "words"),
    [
        (GOOD, replace(GOOD, finite=False), "loss or gradients are not finite"),
        (replace(GOOD, loss_error=0.1), replace(GOOD, loss_error=0.1001), "the loss differs by"),
        (
            replace(GOOD, head_loss_error=0.01),
            replace(GOOD, head_loss_error=0.0101),
            "the loss on equal features differs by 1.0%",
        ),
        (with_stage(output=0.1), with_stage(output=0.1001), "the output of head is off by 10.0%"),
        (with_stage(cosine=0.9), with_stage(cosine=0.8999), "the gradient of head has"),
        (replace(GOOD, box_error=0.5), replace(GOOD, box_error=0.501), "boxes move by 0.50 cells"),
        (with_stage(lost=0.05, count=1e9), with_stage(lost=0.0501, count=1e9), "lost to zero"),
    ],
)
def test_each_threshold_has_an_inside_and_an_outside(
    inside: Trial, outside: Trial, words: str
) -> None:
    assert find_problem(inside) is None
    assert words in (find_problem(outside) or "passed")


@each(
    "trial",
    [
        replace(GOOD, loss_error=float("nan")),
        replace(GOOD, head_loss_error=float("nan")),
        replace(GOOD, box_error=float("nan")),
        replace(GOOD, box_error=float("inf")),
        with_stage(output=float("nan")),
        with_stage(output=float("inf")),
        with_stage(cosine=float("nan")),
        with_stage(lost=float("nan")),
    ],
)
def test_what_is_no_number_passes_nothing(trial: Trial) -> None:
    assert find_problem(trial) is not None


def test_lost_is_a_share_of_all_gradient_numbers() -> None:
    stages = {
        "large": replace(STAGE, lost=0.0, count=900),
        "small": replace(STAGE, lost=0.4, count=100),
    }
    assert replace(GOOD, stages=stages).lost == pytest.approx(0.04)
    assert replace(GOOD, stages={}).lost == 0


@pytest.mark.parametrize(
    ("bf16_ms", "rounds"), [([30, 20, 25, 25], 1), ([45, 34, 90, 10], 2), ([80, 90, 60, 10], 4)]
)
def test_time_is_the_best_round_and_what_is_not_clearly_faster_gets_more(
    monkeypatch: pytest.MonkeyPatch, bf16_ms: list[int], rounds: int
) -> None:
    now, asked = [0.0], {"fp32": 0, "bf16": 0}
    costs = {"fp32": [50, 40, 70, 70], "bf16": bf16_ms}
    model = fresh_detector()
    timed = SanityCheck(model, make_criterion(), make_batch(1))

    def loss(model: nn.Module, precision: Precision) -> Tensor:
        now[0] += costs[precision.name][asked[precision.name]] / 1000
        asked[precision.name] += 1
        return next(model.parameters()).sum()

    monkeypatch.setattr(timed, "_loss", loss)
    monkeypatch.setattr(sanity.time, "perf_counter", lambda: now[0])
    found = timed._time((Precision("fp32", "cpu", ""), Precision("bf16", "cpu", "")))
    assert asked == {"fp32": rounds, "bf16": rounds}
    assert found == pytest.approx({n: min(ms[:rounds]) for n, ms in costs.items()})


@pytest.mark.parametrize(("names", "passes"), [((), 1), (("bf16",), 2)])
def test_a_check_costs_two_passes_a_precision_and_a_replay(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], passes: int
) -> None:
    """With candidates that are clearly faster: what is measured is counted, not timed."""
    calls = []
    checked = SanityCheck(fresh_detector(), make_criterion(), make_batch(2))
    whole = checked._loss
    monkeypatch.setattr(sanity, "CLEAR_SPEEDUP", 0.0)
    monkeypatch.setattr(checked, "_loss", lambda m, n: (calls.append(n), whole(m, n))[1])
    trials = checked.run(dict.fromkeys(names, ()))
    assert [trial.precision for trial in trials] == ["fp32", *names]
    assert len(calls) == 2 * passes
