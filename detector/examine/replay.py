"""Steps of a run, learned again from a start that its checksums.json names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...datasets.scan.scan import Scan
from ...datasets.sets.dataset import Dataset
from ...weights.checkpoint import load_state
from ...weights.training_state import check_state
from ..checkpoints.rebuild import read_state_meta
from ..options.fields import options_of
from ..options.parse import parse
from ..options.train import TrainConfig
from ..options.verify import VerifyConfig
from ..precision.ladder import Decision
from ..precision.precision import Precision
from ..run.data_place import DataPlace
from ..run.log import Log
from ..run.observer import Epoch, Observer, Observers, Started, Step
from ..train.assemble import Run, assemble
from ..train.checksums import Checksums, where
from ..train.decide import decide_precision
from ..train.pipeline import continue_from
from ..train.schedule import RunLength, ema_constants, warmup_steps
from ..train.trainer import Trainer

PLAIN = {
    "save": False, "save_state": False, "plots": False, "report": False, "log": None,
    "resume": None, "time": None,
}  # fmt: skip
"""Options of a replay: it leaves no file, and its length is known."""


@dataclass(frozen=True)
class Replayed:
    """first: sha256 of the weights before the first step.  steps, epochs: as in checksums.json.
    where: what the bytes may depend on.  data: the data set and its two splits."""

    first: str | None
    steps: Sequence[Mapping[str, Any]]
    epochs: Sequence[Mapping[str, Any]]
    where: Mapping[str, Any]
    data: tuple[Dataset, tuple[Scan, Scan]]


class Enough(Exception):
    """All steps that were to be replayed are done."""


class Watching(Checksums):
    """Takes the same sums as the run did, and ends the replay after ``epochs`` of them, or with 0
    after ``steps`` updates.  Writes nothing."""

    def __init__(self, run: Run, start: Mapping[str, Any], epochs: int) -> None:
        super().__init__(run)
        self.wanted, self.epochs = len(start["steps"]), epochs
        self.start = {"epoch": start["epoch"], "steps": []}

    def started(self, run: Started) -> None:
        first = self._first(run.epochs)["weights"]
        self.facts = {"first": first, "starts": [self.start], "epochs": [], "files": {}}

    def epoch(self, epoch: Epoch) -> str | None:
        super().epoch(epoch)
        enough = len(self.facts["epochs"]) >= self.epochs
        return "replayed" if enough else None

    def write(self) -> None:
        """Nothing: a replay leaves no file."""


class Ending(Observers):
    """Observers of which one may end the run in the middle of an epoch."""

    def __init__(self, watching: Watching, others: Iterable[Observer] = ()) -> None:
        super().__init__([watching, *others], _raise)
        self.watching = watching

    def step(self, step: Step) -> None:
        super().step(step)
        if not self.watching.epochs and len(self.watching.start["steps"]) >= self.watching.wanted:
            raise Enough


def _raise(message: str) -> None:
    raise RuntimeError(message)


def replay(
    folder: Path, start: Mapping[str, Any], words: Mapping[str, Any], epochs: int, log: Log
) -> Replayed:
    """Learn the recorded updates from a start again, and with ``epochs`` whole epochs.

    words: options of the replay (``replay_words``).  Writes nothing into ``folder``.  Raises what
    assembling a run raises.
    """
    state, meta, transferred, path = None, None, frozenset[str](), folder
    if start["file"] is not None:
        path = folder / start["file"]
        state = load_state(path)
        check_state(state, path)
        meta, transferred = read_state_meta(state, path), frozenset(state["transferred"])
    config = options_from(state["config"] if state else start["config"], words)
    run = assemble(config, log, meta, transferred)
    with contextlib.closing(run):
        use_length(run, state["epochs"] if state else start["epochs"])
        watching = Watching(run, start, epochs)
        if state is not None:
            decision = decide_precision(run, state, log)
        else:
            precision = Precision(start["precision"], run.device.type, "as in the run")
            decision = Decision(precision, tuple(start["rungs"]), [], {})
        trainer = watching.trainer = Trainer(run, decision, folder, log, Ending(watching))
        if state is not None:
            continue_from(trainer, state, path)
        with contextlib.suppress(Enough):
            trainer.fit()
        first = None if state else watching.facts["first"]
        facts = watching.facts
        data = run.dataset, (run.train, run.val)
        return Replayed(first, watching.start["steps"], facts["epochs"], where(run), data)


def options_from(saved: Mapping[str, Any], words: Mapping[str, Any]) -> TrainConfig:
    """Options of a run as a file holds them, changed by ``words``."""
    known = options_of(TrainConfig)
    kept = {name: value for name, value in saved.items() if name in known}
    return replace(parse(TrainConfig, kept)[0], **words)


def replay_words(
    config: VerifyConfig, place: DataPlace | None, session: Mapping[str, Any]
) -> dict[str, Any]:
    """The options that a replay has instead of those of the run: the data where they are now, the
    threads that the run had, and what was typed."""
    typed = {
        name: value
        for name in ("data", "workers", "cache", "device", "threads")
        if (value := getattr(config, name)) is not None
    }
    lies = place.options(typed.keys()) if place else {}
    return {**PLAIN, "threads": session["where"]["threads"], **lies, **typed}


def use_length(run: Run, epochs: int) -> None:
    """Make the run as long as it was planned where the replay starts."""
    run.length = RunLength(run.length.steps_per_epoch, epochs)
    run.warmup = warmup_steps(run.length, run.config.warmup_epochs)
    if run.ema:
        run.ema.decay, run.ema.tau = ema_constants(run.length, run.config.ema_decay)
