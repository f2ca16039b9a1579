"""``det train folds=5`` and ``seeds=3``: the same training several times, one run folder each.

Every run is an ordinary training in a subfolder, so all that holds for one run holds for each of
them.  A run that is finished is not repeated; ``resume=`` goes on with the one that was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...files.counted import counted
from ...files.json_text import read_json
from ..options.fields import options_of
from ..options.parse import parse
from ..options.train import TrainConfig
from ..run.data_place import DATA, read_place
from ..run.files import write_args, write_json
from ..run.folder import BEST, LAST, RunError, RunFinished, is_finished, new_run_folder
from ..run.log import Log
from ..run.observer import Observer
from ..run.owner import owned
from ..run.signals import Interrupted
from ..train.evaluator import Evaluator
from ..train.pipeline import train
from .check import MAY_CHANGE, PLAN, check_trainings, find_several, is_several, runs_of
from .report import show_runs, summary

PLACE = ("project", "name", "exist_ok", "resume", "folds", "seeds")
"""Options of the folder of all runs, or of their number: no single run has them."""


@dataclass(frozen=True)
class Plan:
    """Several runs in one folder.  given: the options that were typed."""

    folder: Path
    config: TrainConfig
    given: frozenset[str]


def train_all(
    config: TrainConfig,
    given: frozenset[str],
    log: Log,
    *,
    observers: Iterable[Observer] = (),
    evaluator: Evaluator | None = None,
) -> dict[str, Any]:
    """Train once, or as often as ``folds=`` or ``seeds=`` say.

    observers, evaluator: as for train/pipeline.py; of several runs each is told to the observers.
    Returns what the training returns; of several runs the content of their results.json: the mean
    of the metrics and their spread.
    """
    folder = find_several(config)
    if folder is None and not is_several(config):
        return train(config, given, log, observers=observers, evaluator=evaluator)
    if folder is None:
        check_trainings(config, given)
        plan = _begin(config, given)
    else:
        plan = _resume(folder, config, given)
    told = list(observers)
    with owned(plan.folder):
        results = {}
        for name, words in runs_of(plan.config).items():
            log.info(f"{name} of {counted(len(runs_of(plan.config)), 'run')}")
            results[name] = _once(plan, name, words, log, told, evaluator)
        log.to_file(plan.folder / "log.txt")
        found = summary(plan.config, results)
        show_runs(found, log)
        write_json(plan.folder / "results.json", found)
    return {**found, "folder": str(plan.folder), "best": None, "last": None}


def _begin(config: TrainConfig, given: frozenset[str]) -> Plan:
    folder = new_run_folder(config, "train")
    write_args(folder, config)
    write_json(folder / PLAN, {"given": sorted(given)})
    return Plan(folder, config, given)


def _resume(folder: Path, config: TrainConfig, given: frozenset[str]) -> Plan:
    """The plan of runs that have begun, with what was typed beside ``resume=``."""
    try:
        before = frozenset(read_json(folder / PLAN)["given"])
        known = options_of(TrainConfig).keys()
        if not all(isinstance(name, str) and name in known for name in before):
            raise ValueError("names an unknown option")
    except (ValueError, TypeError, LookupError) as error:
        raise RunError(f"{folder / PLAN}: is damaged ({error}); start new runs") from error
    old, _ = parse(TrainConfig, {"cfg": str(folder / "args.yaml")})
    changes = {name: getattr(config, name) for name in given if name not in PLACE}
    return Plan(folder, replace(old, **changes), before | changes.keys())


def _once(
    plan: Plan, name: str, words: dict[str, str | int], log: Log, observers: list[Observer],
    evaluator: Evaluator | None,
) -> dict[str, Any]:  # fmt: skip
    """Train one run, or go on with it, or read what it found.  words: the options that only it has.

    Six parameters: those of a training, and which one it is.
    """
    folder = plan.folder / name
    if is_finished(folder):
        return _read(folder)
    values = asdict(plan.config) | words
    given = (plan.given | words.keys()) - set(PLACE)
    place = {"project": str(plan.folder), "name": name, "exist_ok": True}
    if (folder / LAST).is_file():
        place, given = {"resume": str(folder)}, given & (MAY_CHANGE - set(PLACE))
    else:
        values |= _data(plan.folder, given)
    values = {key: value for key, value in values.items() if key not in PLACE} | place
    log.began = time.monotonic()  # a time limit is that of each run
    try:
        train(TrainConfig(**values), frozenset(given), log, observers=observers,
              evaluator=evaluator)  # fmt: skip
    except RunFinished:  # the process ended between the training and its page
        pass
    except Interrupted as error:
        raise Interrupted(
            error.exit_code - 128,
            f"stopped in {name}; continue with: det train resume={plan.folder}",
        ) from error
    return _read(folder)


def _data(folder: Path, given: frozenset[str]) -> dict[str, str]:
    """Where the data are, as a run that has begun knows it: resumed in another folder, ``data=``
    would be another file."""
    for path in sorted(folder.glob(f"*/{DATA}")):
        if (place := read_place(path.parent)) is not None:
            return place.options(given - {"data", "images"})
    return {}


def _read(folder: Path) -> dict[str, Any]:
    """results.json of a run.  Raises RunError where it is damaged."""
    path = folder / "results.json"
    try:
        results = read_json(path)
        if not isinstance(results.get("metrics"), dict):
            raise ValueError("no metrics")
    except (ValueError, AttributeError) as error:
        raise RunError(f"{path}: is damaged ({error}); remove its folder and resume") from error
    best = folder / BEST
    return {**results, "folder": str(folder), "best": str(best) if best.is_file() else None}
