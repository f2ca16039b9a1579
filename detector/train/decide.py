"""Which precision a run trains in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..precision.ladder import Decision, choose_precision, resumed_precision
from ..run.log import Log
from .assemble import Run

State = Mapping[str, Any]
"""A run that continues, as its last checkpoint holds it; None where a new one starts."""


def decide_precision(run: Run, state: State | None, log: Log) -> Decision:
    """Measure which precision a new run trains in; a run that continues keeps its own."""
    config, ranks = run.config, run.ranks
    if state is not None:
        name, force = state["precision"], config.amp_force
        return resumed_precision(name, run.device, force=force, ranks=ranks)
    return choose_precision(
        config,
        run.model,
        run.criterion.alone(),
        lambda: run.train_loader.epoch(0),
        run.device,
        log,
        fresh=run.transferred is None,
        ranks=ranks,
    )
