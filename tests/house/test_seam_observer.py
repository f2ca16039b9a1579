"""An observer from outside: a logger, a pruner, one that fails; none is an edit of the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import rows_of, same, saved, train
from yolodet.detector.run.observer import Epoch, Finished, Observer, Started, Step

pytestmark = pytest.mark.usefixtures("tiny_models")


class Logger(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def started(self, run: Started) -> None:
        self.seen.append(("started", run.epochs, run.batches))

    def step(self, step: Step) -> None:
        self.seen.append(("step", step.epoch, step.batch, sorted(step.losses())))

    def epoch(self, epoch: Epoch) -> None:
        self.seen.append(("epoch", epoch.epoch, epoch.row["train/box_loss"]))

    def saved(self, path: Path, epoch: int) -> None:
        self.seen.append(("saved", path.name, epoch))

    def finished(self, end: Finished) -> None:
        self.seen.append(("finished", end.results["best_epoch"]))

    def failed(self, reason: str) -> None:
        self.seen.append(("failed", reason))


class Pruner(Observer):
    def epoch(self, epoch: Epoch) -> str | None:
        return "this trial is pruned" if epoch.epoch == 2 else None


class Broken(Observer):
    def __getattribute__(self, name: str) -> Any:
        raise OSError("the server is away")


def test_a_logger_is_told_everything(squares: Path, tmp_path: Path) -> None:
    logger = Logger()
    results = train(squares, tmp_path, batch=4, epochs=2, observers=[logger])
    rows = rows_of(tmp_path / "train")
    losses = [f"{loss:.6g}" for kind, *_, loss in logger.seen if kind == "epoch"]
    assert losses == [row["train/box_loss"] for row in rows]
    steps = [facts[1:] for facts in logger.seen if facts[0] == "step"]
    assert steps == [(e, b, ["box", "cls", "dfl"]) for e in (1, 2) for b in (1, 2)]
    assert logger.seen[0] == ("started", 2, 2)
    assert logger.seen[-1] == ("finished", results["best_epoch"])
    assert ("saved", "best.safetensors", 1) in logger.seen and (
        "saved",
        "last.pt",
        2,
    ) in logger.seen


def test_a_pruner_stops_the_run_which_is_reported_as_finished(
    squares: Path, tmp_path: Path
) -> None:
    results = train(squares, tmp_path, batch=4, epochs=9, observers=[Pruner()])
    assert results["epochs"] == 2 and Path(results["best"]).exists()
    text = (tmp_path / "train" / "log.txt").read_text()
    assert "stopping after epoch 2: this trial is pruned" in text


def test_an_observer_that_fails_is_reported_once_and_changes_nothing(
    squares: Path, tmp_path: Path
) -> None:
    train(squares, tmp_path / "without", batch=4, epochs=2)
    train(squares, tmp_path / "with", batch=4, epochs=2, observers=[Broken()])
    assert same(saved(tmp_path / "with" / "train"), saved(tmp_path / "without" / "train"))
    text = (tmp_path / "with" / "train" / "log.txt").read_text()
    assert text.count("WARNING: observer Broken failed: OSError: the server is away") == 1


def test_a_run_that_ends_by_an_error_is_told_as_failed(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ArithmeticError("no power")

    monkeypatch.setattr("yolodet.detector.train.trainer.Trainer._train_batch", fail)
    logger = Logger()
    with pytest.raises(ArithmeticError):
        train(squares, tmp_path, observers=[logger])
    assert logger.seen[-1] == ("failed", "no power")
