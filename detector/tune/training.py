"""A trial is a training: a run folder of its own, watched while it goes on, continued where it was
interrupted."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ...files.errors import DetError
from ...files.json_text import read_json
from ..options.parse import parse
from ..options.train import TrainConfig
from ..run.folder import LAST, RunError, RunFinished
from ..run.log import Log
from ..run.memory import out_of_memory
from ..run.observer import Epoch, Observer
from ..run.process import settings_kept
from ..run.signals import Interrupted
from ..train.pipeline import train

FAILURES = (DetError, MemoryError, FloatingPointError, RuntimeError)
"""Errors of which ``reason_of`` says whether they end a trial or the search."""

Watch = Callable[[int, float], str | None]
"""(finished epochs, best AP so far) -> a reason to stop, or None."""


@dataclass(frozen=True)
class Result:
    """value: the AP of the best weights; nan where nothing could be measured.  epochs: trained.
    seconds: they took."""

    value: float
    epochs: int = 0
    seconds: float = 0.0


ON_RESUME = ("epochs", "device", "threads", "workers")
"""Options of the search that a trial takes over when it goes on."""


class Objective(Protocol):
    """What a trial does with its options."""

    def __call__(self, values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
        """Train with ``values`` in ``folder``, or go on there.  Raises what the training raises."""


class Training:
    """Trains with the options of the search and the values of a trial.

    fixed: the options that all trials have.
    """

    def __init__(self, fixed: Mapping[str, Any], log: Log) -> None:
        self._fixed = dict(fixed)
        self._log = TrialLog(log)

    def __call__(self, values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
        place: dict[str, Any] = {
            "project": str(folder.parent),
            "name": folder.name,
            "exist_ok": True,
            "plots": False,
        }
        words = {**self._fixed, **values, **place}
        if (folder / LAST).is_file():
            kept = {name: self._fixed[name] for name in ON_RESUME if name in self._fixed}
            words = {"resume": str(folder), **kept}
        config, given = parse(TrainConfig, words)
        try:
            # RunFinished: the process ended between the training and its record
            with settings_kept(), contextlib.suppress(RunFinished):
                train(config, given, self._log.fresh(), observers=[Watcher(watch)])
        finally:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return result_of(folder)


def reason_of(error: Exception) -> str | None:
    """Why a trial has failed: diverged, out of memory.  None for what ends the whole search."""
    fails = out_of_memory(error) or isinstance(error, DetError | MemoryError | FloatingPointError)
    if isinstance(error, Interrupted) or not fails:
        return None
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def result_of(folder: Path) -> Result:
    """What results.json of a run says.  Raises RunError where it is damaged."""
    path = folder / "results.json"
    try:
        results = read_json(path)
        value = (results.get("metrics") or {}).get("map")
        ap = math.nan if value is None else float(value)
        return Result(ap, int(results["epochs"]), float(results["train_seconds"]))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise RunError(f"{path}: is not what a run of det writes; remove its folder") from error


class Watcher(Observer):
    """Tells the search how a trial goes, and ends it where the search says so."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def epoch(self, epoch: Epoch) -> str | None:
        known = [row.get("metrics/map", math.nan) for row in epoch.rows]
        value = max((v for v in known if not math.isnan(v)), default=0.0)
        return self._watch(epoch.epoch, value) if epoch.epoch < epoch.epochs else None


class TrialLog(Log):
    """The messages of a trial go to its log.txt; a warning that other trials gave is not shown
    again."""

    def __init__(self, search: Log) -> None:
        super().__init__(verbose=False)
        self._search = search
        self.mute = search.mute

    def fresh(self) -> TrialLog:
        """A log for the next trial."""
        return TrialLog(self._search)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self.detail(f"WARNING: {text}")
        self._search.once([text])
