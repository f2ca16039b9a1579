"""A search on one page: the space, the study, the trials, the closing trainings, the report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from ...datasets.scan.count import count_images, count_split
from ...datasets.sets.locate import load_dataset
from ...files.counted import counted
from ...files.json_text import read_json
from ..options.parse import parse
from ..options.tune import TuneConfig
from ..run.files import plain, write_args, write_json
from ..run.folder import RunError, find_state, new_run_folder
from ..run.log import Log
from ..run.signals import Interrupted
from .check import STUDY, fixed_words
from .closing import Closing, train_again
from .crew import Crew
from .plots import plot_search
from .process import local_crew
from .report import rows_of, show_trials, write_best, write_trials
from .search import Deadline, search, words_of
from .space import default_space, given_space, nominal, read_space, write_space
from .study import Study, values_of
from .training import Objective, Training

SPACE = "space.yaml"


@dataclass(frozen=True)
class Begun:
    """A search in its folder.  fixed: the options of all trials."""

    config: TuneConfig
    fixed: dict[str, Any]
    study: Study


def tune(
    config: TuneConfig, given: frozenset[str], log: Log, objective: Objective | None = None
) -> dict[str, Any]:
    """Search, or go on with a search; leaves a run folder.

    objective: what a trial does; None: it trains.  Returns the content of tune.json: the folder,
    the trials, the best one, and what new seeds made of it.
    """
    begun = _resume(config, given, log) if config.resume is not None else _begin(config, given, log)
    study, config = begun.study, begun.config
    until = Deadline(None if config.time is None else 3600 * config.time, 2 * config.seeds)
    closing = Closing((), ())
    try:
        with _named_storage(study.folder), trainer_of(begun, objective, log) as runs:
            search(study, runs, config.trials, log, until)
            closing = _close(begun, runs, log)
    except Interrupted as error:
        raise Interrupted(
            error.exit_code - 128,
            f"stopped; {counted(len(study.trials(TrialState.COMPLETE)), 'trial')} complete; "
            f"continue with: det tune resume={study.folder}",
        ) from error
    finally:
        _report(begun, log)
    result = _result(begun, closing)
    write_json(study.folder / "tune.json", result)
    return result


@contextlib.contextmanager
def trainer_of(begun: Begun, objective: Objective | None, log: Log) -> Iterator[Objective]:
    """What trains: this process, several of this machine, or a Ray cluster."""
    config, fixed = begun.config, begun.fixed
    if objective is None and config.engine == "ray":
        from .ray_cluster import ray_crew  # an extra

        objective = ray_crew(config, fixed, log)
    runs = objective or local_crew(config, fixed, log) or Training(fixed, log)
    try:
        yield runs
    finally:
        if isinstance(runs, Crew):
            runs.close()


def _begin(config: TuneConfig, given: frozenset[str], log: Log) -> Begun:
    """A new run folder with the options, the space and an empty study."""
    images = count_images(config.data_source, "train")
    if not images:  # not on disk yet
        found = load_dataset(config.data_source, download=config.online, on_message=log.message)
        images = count_split(found, "train")
    images = max(round(images * config.fraction), 1)
    space = given_space(config) or default_space(config, given, images)
    fixed = {n: v for n, v in fixed_words(config, given).items() if n not in space}
    folder = new_run_folder(config, "tune")
    log.to_file(folder / "log.txt")
    log.info(f"folder     {folder.resolve()}")
    log.info(f"search     {counted(config.trials, 'trial')} of {counted(config.epochs, 'epoch')}, "
             f"the first with the defaults, on {counted(images, 'image')}")  # fmt: skip
    for name, span in space.items():
        log.info(f"  {name:<16} {span}")
    write_args(folder, replace(config, ranges=None, space=None))
    write_json(folder / "fixed.json", fixed)
    write_space(folder / SPACE, space)
    usual = plain(nominal(config, images))
    write_json(folder / "defaults.json", {name: usual.get(name) for name in space})
    return Begun(config, fixed, _study(folder, config))


def _resume(config: TuneConfig, given: frozenset[str], log: Log) -> Begun:
    """A search that has begun, with what was typed beside ``resume=``."""
    folder = find_state(config.resume, config.project, STUDY, "search")
    before, _ = parse(TuneConfig, {"cfg": str(folder / "args.yaml")})
    changes = {name: getattr(config, name) for name in given}
    config = replace(before, **changes)
    log.to_file(folder / "log.txt")
    machine = {n: v for n, v in fixed_words(config, given).items() if n in ("device", "threads")}
    fixed = _read_json(folder / "fixed.json") | machine
    study = _study(folder, config)
    log.info(f"folder     {folder.resolve()}: {counted(len(study.trials()), 'trial')} so far")
    return Begun(config, fixed, study)


def _study(folder: Path, config: TuneConfig) -> Study:
    space, usual = read_space(folder / SPACE), _read_json(folder / "defaults.json")
    with _named_storage(folder):
        return Study(folder, space, usual, seed=config.seed, resource=config.epochs)


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file of a search.  Raises RunError."""
    try:
        content = read_json(path)
    except ValueError as error:
        raise RunError(f"{path}: is damaged ({error}); start a new search") from None
    if not isinstance(content, dict):
        raise RunError(f"{path}: is damaged (not an object); start a new search")
    return content


@contextlib.contextmanager
def _named_storage(folder: Path) -> Iterator[None]:
    """What a damaged or full data base raises, as a RunError that names study.db."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        why = str(error.__cause__ or error).splitlines()[0]
        raise RunError(
            f"{folder / STUDY}: cannot be used ({why}); where it is damaged, start a new search"
        ) from error


def _close(begun: Begun, objective: Objective, log: Log) -> Closing:
    """The closing trainings, by the process whose trial was the last one."""
    study, config = begun.study, begun.config
    best = study.best
    if study.trials(TrialState.RUNNING):
        log.info("trials of other processes are not finished: the last process ends the search")
        return Closing((), ())
    if best is None or not config.seeds:
        return Closing((), ())
    seeds = range(config.seed + 1, config.seed + 1 + config.seeds)
    try:
        with FileLock(study.folder / "closing.lock", timeout=0):
            return train_again(study.folder, values_of(best), objective, list(seeds), log)
    except Timeout:
        log.info("another process does the closing trainings")
        return Closing((), ())


def _report(begun: Begun, log: Log) -> None:
    """trials.csv, best.yaml and the pictures, also of a search that was stopped."""
    study, best = begun.study, begun.study.best
    write_trials(study)
    if best is None:
        return
    write_best(study.folder / "best.yaml", begun.fixed, best)
    show_trials(study, log)
    if begun.config.plots:
        plot_search(study)


def _result(begun: Begun, closing: Closing) -> dict[str, Any]:
    study, best = begun.study, begun.study.best
    return {
        "folder": str(study.folder),
        "trials": rows_of(study),
        "best": None
        if best is None
        else {"trial": best.number, "ap": best.value, "options": values_of(best)},
        "best_yaml": None if best is None else str(study.folder / "best.yaml"),
        "closing": {name: list(values) for name, values in asdict(closing).items()},
        "verdict": closing.verdict,
        "words": "" if best is None else words_of(values_of(best)),
    }
