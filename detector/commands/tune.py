"""``det tune``: search for better training options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...files.counted import counted
from ..checkpoints.check import named_start
from ..options.catalog import Command
from ..options.tune import TuneConfig
from ..run.log import Log
from ..tune.check import check_tune
from .outcome import Outcome
from .show import absolute, join


def execute(command: Command, config: TuneConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check, search, and show what was found."""
    if config.resume is None:
        config, given = named_start(config, given, log)
    result = search(config, given, log)
    return Outcome(result, show_search(result))


def search(config: TuneConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Check the options and search.  Returns what was found (``tune.json``)."""
    check_tune(config, given)
    log.loading_torch()
    from ..tune.pipeline import tune  # optuna is an extra

    return tune(config, given, log)


def show_search(result: Mapping[str, Any]) -> str:
    """The search in words; its last line says what new seeds made of the best trial."""
    states = Counter(row["state"] for row in result["trials"])
    lines = [", ".join(f"{counted(n, 'trial')} {state}" for state, n in states.items())]
    best = result["best"]
    if best is None:
        lines.append("no trial has an AP yet")
    else:
        lines.append(f"best trial: {best['trial']}, AP {best['ap']:.3f}, "
                     f"{result['words'] or 'the defaults'}")  # fmt: skip
    lines.append(f"results: {absolute(result['folder'])}")
    if best is not None:
        lines.append(f"use it: det train cfg={result['best_yaml']}")
    return join([*lines, *([result["verdict"]] if result["verdict"] else [])])
