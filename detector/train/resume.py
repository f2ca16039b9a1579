"""Continuing a run: which file, which options, what may change.

A continued run keeps the options it was started with.  An option typed beside ``resume=`` is
applied if the past steps would have been the same with it, and refused by name otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ...files.counted import counted
from ...weights.checkpoint import CheckpointError, load_state
from ...weights.training_state import check_state
from ..options.errors import UsageError
from ..options.fields import options_of
from ..options.parse import parse
from ..options.train import TrainConfig
from ..run.folder import LAST, RunFinished, RunNotFound, newest_run
from ..run.log import Log

MAY_CHANGE = frozenset(
    (
        "epochs", "time", "patience", "device", "threads", "augment_device", "workers", "cache",
        "offline", "accept_license", "save_period", "save_steps", "plots", "val", "verbose",
        "download", "data", "resume", "project", "split", "max_det", "iou",
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
    if not path.is_file():
        raise RunNotFound(f"resume={resume}: there is no {path}; name a run folder or its {LAST}")
    return path


LENGTH = frozenset(("epochs", "time", "patience"))
"""Options that say when a run is over."""


def refuse_finished(
    folder: Path, position: Mapping[str, Any], before: TrainConfig, longer: Mapping[str, Any]
) -> None:
    """Raise RunFinished where a run has reported after its last epoch, whatever ended it.

    longer: the options of LENGTH that were typed."""
    try:
        report = json.loads((folder / "results.json").read_text())
    except (OSError, ValueError):
        return
    done = position["epoch"]
    if report.get("stopped") or report.get("epochs") != done or position["batch"]:
        return  # stopped by a signal, or extended since
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
        before, _ = parse(TrainConfig, {k: v for k, v in state["config"].items() if k in known})
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
    return replace(before, **changes), state
