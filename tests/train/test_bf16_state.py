"""The optimizer's state in bfloat16: the same learning, half the bytes, exact continuation."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from test_resume import in_batch, stop
from tiny import STEPS, make_batch, make_criterion, same, saved, tiny_detector, train
from torch import Tensor
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.precision import Precision
from yolodet.detector.run.folder import LAST
from yolodet.detector.run.signals import Interrupted
from yolodet.detector.train.bf16_state import rounded
from yolodet.detector.train.memory import state_bytes
from yolodet.detector.train.optim import DEFAULTS, build_optimizer, choose_optimizer
from yolodet.detector.train.step import TrainStep
from yolodet.weights.checkpoint import load_state


def learner(name: str, state: str) -> TrainStep:
    """A tiny detector with its optimizer; the same weights each time."""
    torch.manual_seed(0)
    model = tiny_detector().train()
    choice = choose_optimizer(TrainConfig(optimizer=name, optimizer_state=state))
    fp32 = Precision("fp32", "cpu", "")
    optimizer = build_optimizer(model, choice)
    return TrainStep(model, make_criterion(), optimizer, fp32, ema=None, clip=10.0)


def losses(step: TrainStep, count: int) -> list[float]:
    batch = make_batch(4)
    return [float(step(batch, update=True, eager=True).loss.total) for _ in range(count)]


def moments(step: TrainStep) -> list[Tensor]:
    states = step.optimizer.state.values()
    return [t for s in states for t in s.values() if isinstance(t, Tensor) and t.ndim]


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_the_loss_stays_near_that_of_float32(name: str) -> None:
    exact, half = learner(name, "fp32"), learner(name, "bf16")
    a, b = losses(exact, 30), losses(half, 30)
    assert a[-1] < 0.95 * a[0]
    assert b != a and abs(b[-1] - a[-1]) < 0.1 * (a[0] - a[-1])
    assert {t.dtype for t in moments(half)} == {torch.bfloat16}
    taken = [sum(t.nbytes for t in moments(each)) for each in (exact, half)]
    assert 2 * taken[1] == taken[0] and state_bytes(half.optimizer) == taken[1]


def test_the_rounding_is_right_on_average_and_to_a_neighbor() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([1.0 + 1 / 1024, -3.001, 1e-20, 0.0, 2.0, 7e30])
    drawn = torch.stack([rounded(values, generator) for _ in range(4000)]).double()
    step = values.double().abs() / 128
    assert bool(((drawn - values.double()).abs() <= step).all())
    assert bool(((drawn.mean(0) - values.double()).abs() <= 0.05 * step).all())
    assert bool((drawn[:, 3] == 0).all()) and bool((drawn[:, 4] == 2).all())


def test_a_moment_that_hardly_changes_still_arrives() -> None:
    """Adam's second moment, which rounding to the nearest would leave where it is."""
    generator = torch.Generator().manual_seed(0)
    moment, nearest = (torch.ones(1000, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(1000):
        moment = rounded(moment.float().mul(0.999), generator)
        nearest = nearest.float().mul(0.999).bfloat16()
    assert moment.float().mean().item() == pytest.approx(0.999**1000, rel=0.05)
    assert nearest.float().mean().item() == 1.0


@pytest.mark.parametrize("name", ["MuSGD", "SGD", "AdamW"])
def test_it_continues_as_if_it_had_never_stopped(name: str) -> None:
    whole, first, second = (learner(name, "bf16") for _ in range(3))
    losses(whole, 6)
    losses(first, 3)
    random = torch.get_rng_state()
    second.model.load_state_dict(copy.deepcopy(first.model.state_dict()))
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    assert same(second.optimizer.state_dict(), first.optimizer.state_dict())
    losses(second, 3)
    assert same(second.model.state_dict(), whole.model.state_dict())
    assert same(second.optimizer.state_dict(), whole.optimizer.state_dict())
    assert torch.equal(random, torch.get_rng_state())  # of everything else


@pytest.mark.usefixtures("tiny_models")
def test_a_run_that_is_continued_keeps_it(shapes: Path, tmp_path: Path) -> None:
    """Through files, stopped in the middle of its second epoch."""
    words = {"optimizer_state": "bf16", "nbs": 3}
    train(shapes, tmp_path / "whole", **words)
    with in_batch(STEPS + 1, stop()), pytest.raises(Interrupted):
        train(shapes, tmp_path / "parts", **words)
    folder = tmp_path / "parts" / "train"
    state = load_state(folder / LAST)["optimizer"]["state"]
    found = {t.dtype for s in state.values() for t in s.values() if isinstance(t, Tensor)}
    assert found == {torch.bfloat16}
    with pytest.raises(UsageError, match="cannot change optimizer_state of a run"):
        train(shapes, tmp_path, resume=str(folder), optimizer_state="fp32")
    train(shapes, tmp_path, resume=str(folder))
    assert same(saved(folder), saved(tmp_path / "whole" / "train"))
