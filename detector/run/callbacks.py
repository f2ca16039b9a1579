"""Functions for the events of a run, under the names that Ultralytics gives them.

``YOLO.add_callback("on_fit_epoch_end", function)``: the function gets one object with the facts of
the run.  In training it is told by an observer (observer.py), so one that fails is reported once
and never stops a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..options.errors import UsageError, did_you_mean
from .folder import BEST, LAST
from .observer import Epoch, Finished, Observer, Started, Step

TRAINING = (
    "on_pretrain_routine_start", "on_pretrain_routine_end", "on_train_start",
    "on_train_epoch_start", "on_train_batch_end", "on_train_epoch_end", "on_fit_epoch_end",
    "on_model_save", "on_train_end", "teardown",
)  # fmt: skip
OTHERS = (
    "on_val_start", "on_val_end", "on_predict_start", "on_predict_batch_end",
    "on_predict_postprocess_end", "on_predict_end", "on_export_start", "on_export_end",
)  # fmt: skip
EVENTS = (*TRAINING, *OTHERS)
METRICS = {
    "metrics/precision": "metrics/precision(B)", "metrics/recall": "metrics/recall(B)",
    "metrics/map_50": "metrics/mAP50(B)", "metrics/map": "metrics/mAP50-95(B)",
}  # fmt: skip
"""Columns of results.csv -> their names in Ultralytics."""


class Callbacks:
    """The functions of a YOLO object, by event."""

    def __init__(self) -> None:
        self._functions: dict[str, list[Callable[[Any], Any]]] = {}

    def add(self, event: str, function: Callable[[Any], Any]) -> None:
        """Raises UsageError for an event that det does not have."""
        self._known(event)
        self._functions.setdefault(event, []).append(function)

    def clear(self, event: str) -> None:
        """Forget the functions of an event.  Raises UsageError for one that det does not have."""
        self._known(event)
        self._functions.pop(event, None)

    def tell(self, event: str, facts: Any) -> None:
        for function in self._functions.get(event, ()):
            function(facts)

    def follow(self, results: Iterator[Any], args: Any) -> Iterator[Any]:
        """The results of a prediction; functions hear of each one as it is passed on.  args: the
        options."""
        facts = SimpleNamespace(args=args, results=[])
        self.tell("on_predict_start", facts)
        for result in results:
            facts.results = [result]
            for event in ("on_predict_postprocess_end", "on_predict_batch_end"):
                self.tell(event, facts)
            yield from facts.results
        self.tell("on_predict_end", facts)

    def __bool__(self) -> bool:
        return bool(self._functions)

    def _known(self, event: str) -> None:
        if event not in EVENTS:
            fix = did_you_mean(event, EVENTS) or f"choose from {', '.join(EVENTS)}"
            raise UsageError(f"det has no event {event!r}: {fix}")


@dataclass
class TrainerFacts:
    """What a function of a training gets.

    args: every option.  epoch: from 0.  metrics: of the last epoch, under both names.  tloss,
    loss_items: mean loss parts of the epoch so far.  best, last: the checkpoints.  fitness,
    best_fitness: AP.  stop: set it to True to end the run after this epoch.
    """

    args: SimpleNamespace
    save_dir: Path
    epochs: int
    epoch: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    tloss: Mapping[str, float] = field(default_factory=dict)
    fitness: float | None = None
    best_fitness: float | None = None
    stop: bool = False

    @property
    def best(self) -> Path:
        return self.save_dir / BEST

    @property
    def last(self) -> Path:
        return self.save_dir / LAST

    @property
    def wdir(self) -> Path:
        return self.best.parent

    @property
    def loss_items(self) -> Mapping[str, float]:
        return self.tloss


class CallbackObserver(Observer):
    """Tells the functions of ``callbacks`` how a training goes."""

    def __init__(self, callbacks: Callbacks) -> None:
        self._callbacks = callbacks
        self._facts: TrainerFacts | None = None

    def started(self, run: Started) -> None:
        args = SimpleNamespace(**run.config)
        self._facts = TrainerFacts(args, run.folder, run.epochs, run.epoch)
        for event in TRAINING[:4]:
            self._callbacks.tell(event, self._facts)

    def step(self, step: Step) -> None:
        facts = self._known()
        facts.tloss = _Lazy(step.losses)
        self._callbacks.tell("on_train_batch_end", facts)

    def epoch(self, epoch: Epoch) -> str | None:
        facts = self._known()
        facts.epoch = epoch.epoch - 1
        theirs = {METRICS[name]: v for name, v in epoch.row.items() if name in METRICS}
        facts.metrics = {**epoch.row, **theirs}
        facts.tloss = {
            name.removeprefix("train/").removesuffix("_loss"): value
            for name, value in epoch.row.items()
            if name.startswith("train/")
        }
        facts.fitness = epoch.row.get("metrics/map")
        if epoch.best:
            facts.best_fitness = facts.fitness
        for event in ("on_train_epoch_end", "on_fit_epoch_end"):
            self._callbacks.tell(event, facts)
        if facts.stop:
            return "a callback has set trainer.stop"
        if epoch.epoch < epoch.epochs:
            facts.epoch = epoch.epoch
            self._callbacks.tell("on_train_epoch_start", facts)
        return None

    def saved(self, path: Path, epoch: int) -> None:
        self._callbacks.tell("on_model_save", self._known())

    def finished(self, end: Finished) -> None:
        self._callbacks.tell("on_train_end", self._known())
        self._callbacks.tell("teardown", self._known())

    def failed(self, reason: str) -> None:
        if self._facts is not None:
            self._callbacks.tell("teardown", self._facts)

    def _known(self) -> TrainerFacts:
        assert self._facts is not None
        return self._facts


class _Lazy(Mapping[str, float]):
    """Losses that are read from the device when somebody asks."""

    def __init__(self, losses: Callable[[], Mapping[str, float]]) -> None:
        self._losses = losses

    def __getitem__(self, name: str) -> float:
        return self._losses()[name]

    def __iter__(self) -> Any:
        return iter(self._losses())

    def __len__(self) -> int:
        return len(self._losses())
