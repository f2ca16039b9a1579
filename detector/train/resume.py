"""Continuing a run: which file, which options, what may change.

A continued run keeps the options it was started with.  An option typed beside ``resume=`` is
applied if the past steps would have been the same with it, and refused by name otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files.counted import counted
from ...files.json_text import read_note
from ...weights.checkpoint import CheckpointError, load_state, load_weights
from ...weights.training_state import check_state
from ..options.errors import UsageError
from ..options.fields import options_of
from ..options.parse import parse
from ..options.train import TrainConfig
from ..run.data_place import read_place, without_place
from ..run.folder import BEST, LAST, PAGE, RunFinished, RunNotFound, newest_run
from ..run.log import Log

if TYPE_CHECKING:  # the checks before torch is loaded need find_last
    from .assemble import Run
    from .trainer import Trainer

MAY_CHANGE = frozenset(
    (
        "epochs", "time", "patience", "device", "threads", "augment_device", "workers", "cache",
        "offline", "accept_license", "save_period", "save_steps", "plots", "report", "val",
        "verbose", "download", "data", "images", "resume", "project", "split", "max_det", "iou",
        "log", "micro_batch", "teacher", "checkpointing", "save_state",
    )
)  # fmt: skip
"""Options that may differ after a resume: they do not change what the past steps meant."""


def find_last(resume: bool | str, project: str) -> Path:
    """The last checkpoint that ``resume`` points to: True is the newest run of the project,
    else a run folder or a file.  Raises RunNotFound; never guesses another run."""
    if not isinstance(resume, str):
        return newest_run(project, LAST) / LAST
    path = Path(resume)
    if path.is_dir():
        path = path / LAST
    elif len(path.parents) < 2:  # last.pt of the folder above
        path = path.absolute()
    if not path.is_file():
        raise RunNotFound(f"resume={resume}: there is no {path}; name a run folder or its {LAST}")
    return path


LENGTH = frozenset(("epochs", "time", "patience"))
"""Options that say when a run is over."""


def refuse_finished(
    folder: Path, position: Mapping[str, Any], before: TrainConfig, longer: Mapping[str, Any]
) -> None:
    """Raise RunFinished where a run has written its results, and its page if it has one, after its
    last epoch, whatever ended it.

    longer: the options of LENGTH that were typed."""
    report = read_note(folder / "results.json")
    done = position["epoch"]
    if report.get("stopped") or report.get("epochs") != done or position["batch"]:
        return  # stopped by a signal, or extended since
    if before.report and not (folder / PAGE).exists():
        return  # killed between results.json and the page
    if longer and longer.get("epochs", done + 1) > done:
        return
    word = f"epochs={2 * done}" if before.time is None else f"time={2 * before.time:g}"
    if done < before.epochs and before.time is None:  # it was stopped early
        word = f"epochs={before.epochs} with another patience="
    raise RunFinished(
        f"{folder} has finished its {counted(done, 'epoch')}: there is nothing to resume; "
        f"{word} extends it"
    )


def resume_config(
    config: TrainConfig, given: frozenset[str], path: Path, log: Log
) -> tuple[TrainConfig, Mapping[str, Any]]:
    """The options to continue with, and the saved state.  Raises UsageError for an option that
    cannot change, RunFinished if there is nothing left to do."""
    state = load_state(path)
    check_state(state, path)
    known = options_of(TrainConfig)
    try:
        kept = {k: v for k, v in state["config"].items() if k in known}
        before, _ = parse(TrainConfig, {"pixels": "raw", **kept})  # of runs before this option
    except UsageError as error:
        raise CheckpointError(f"{path} is damaged: {error}; use an older copy") from error
    changes = {
        name: getattr(config, name)
        for name in given
        if getattr(config, name) != getattr(before, name)
    }
    refused = sorted(set(changes) - MAY_CHANGE)
    if refused:
        was = ", ".join(f"{name}={getattr(before, name)}" for name in refused)
        raise UsageError(
            f"cannot change {', '.join(refused)} of a run that has started (it has {was}): "
            "start a new run"
        )
    longer = {name: getattr(config, name) for name in LENGTH & given}
    refuse_finished(path.parents[1], state["position"], before, longer)
    for name, value in sorted(changes.items()):
        if name != "resume":
            log.info(f"changed: {name}={asdict(before)[name]} -> {value}")
    if "micro_batch" in changes:
        state = {**state, "micro_batch": None}
    if (place := read_place(path.parents[1])) is not None:
        changes |= place.options(given)
    return replace(before, **changes), state


def compare_data(run: Run, state: Mapping[str, Any], folder: Path, named: bool, log: Log) -> None:
    """Say which splits are not as the run knew them.

    named: the user has typed ``data=``: then it is a warning.  Else UsageError is raised where
    images or labels differ.  A run folder without data.json tells only of fingerprints, which
    copying the files changes too.
    """
    place, scans = read_place(folder), (run.train, run.val)
    if place is None:
        known = state["meta"]["data"]
        pairs = [(scan.split, *without_place(known, scan.split, scan)) for scan in scans]
        changes = [f"{split} has another number of images" for split, sure, _ in pairs if sure]
        touched = [split for split, sure, perhaps in pairs if perhaps and not sure]
        if touched and not changes:
            log.warn(
                f"{' and '.join(touched)}: files have other names, sizes or times than when "
                f"{folder} was trained"
            )
    else:
        found = [place.change(scan.split, run.dataset, scan) for scan in scans]
        changes = [change for change in found if change]
    if not changes:
        return
    what = f"the data have changed since {folder} began: {'; '.join(changes)}"
    if not named:
        raise UsageError(f"{what}; to go on with them as they are, add data={run.config.data}")
    log.warn(f"{what}; the run goes on with them")


def check_best(trainer: Trainer, log: Log) -> None:
    """Where the best weights of a run that continues are missing or damaged, say so now, and keep
    the best of the epochs that follow."""
    at, path, lost = trainer.at, trainer.folder / BEST, ""
    if at.best_epoch < 0 or not trainer.config.save:
        return
    if trainer.ranks.first:
        try:
            load_weights(path)
        except CheckpointError as error:
            lost = str(error)
    if lost := trainer.ranks.broadcast(lost):
        log.warn(
            f"{lost}: the best weights until now (epoch {at.best_epoch}) are lost; the best of the "
            "epochs from here on are kept"
        )
        at.best_map, at.best_epoch, at.improved_epoch = -math.inf, -1, -1
