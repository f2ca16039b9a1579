"""What a search leaves: trials.csv, best.yaml and the table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from optuna.trial import FrozenTrial, TrialState

from ..run.files import plain, write_csv, write_text
from ..run.log import Log
from .search import words_of
from .study import DEFAULTS, PRUNED, REASON, Study, values_of

STATES = {
    TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed",
    TrialState.RUNNING: "running", TrialState.WAITING: "waiting",
}  # fmt: skip
SHOWN = 10


def rows_of(study: Study) -> list[dict[str, Any]]:
    """A row per trial, in their order: number, state, AP, epochs, seconds, reason, options."""
    return [_row(trial, study) for trial in study.trials() if trial.state != TrialState.WAITING]


def _row(trial: FrozenTrial, study: Study) -> dict[str, Any]:
    attributes, values = trial.user_attrs, values_of(trial)
    row = {
        "trial": trial.number,
        "state": STATES[trial.state],
        "defaults": bool(attributes.get(DEFAULTS)),
        "ap": trial.value,
        "epochs": attributes.get("epochs", attributes.get(PRUNED)),
        "seconds": attributes.get("seconds"),
        "reason": attributes.get(REASON, ""),
    }
    return row | {name: values.get(name) for name in study.space}


def write_trials(study: Study) -> None:
    """trials.csv."""
    write_csv(study.folder / "trials.csv", rows_of(study))


def write_best(path: Path, fixed: Mapping[str, Any], best: FrozenTrial) -> None:
    """best.yaml: the options of the search and of its best trial, for ``det train cfg=``."""
    told = "the defaults" if best.user_attrs.get(DEFAULTS) else f"trial {best.number}"
    head = f"# det train cfg={path.name}: {told} of the search, AP {best.value:.4f}\n"
    values = plain({**fixed, **values_of(best)})
    write_text(path, head + yaml.safe_dump(values, sort_keys=False))


def show_trials(study: Study, log: Log) -> None:
    """The best trials as a table."""
    done = study.trials(TrialState.COMPLETE, TrialState.PRUNED)
    ranked = sorted(done, key=lambda trial: (trial.state.name, -(trial.value or 0.0)))
    rows = [
        (
            str(trial.number),
            f"{trial.value or 0.0:.3f}",
            str(trial.user_attrs.get("epochs", "")),
            STATES[trial.state],
            words_of(values_of(trial)) or "the defaults",
        )
        for trial in ranked[:SHOWN]
    ]
    log.table("Best trials", ("trial", "AP", "epochs", "state", "options"), rows)
