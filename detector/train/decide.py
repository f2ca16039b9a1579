"""Which precision a run trains in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..precision.ladder import Decision, choose_precision, resumed_precision
from ..precision.precision import Precision
from ..run.folder import RunError
from ..run.log import Log
from .assemble import Run
from .guard import Failure

State = Mapping[str, Any]
"""A run that continues, as its last checkpoint holds it; None where a new one starts."""


def decide_precision(
    run: Run, state: State | None, log: Log, most: int | None = None
) -> Decision:
    """Measure which precision a new run trains in; a run that continues keeps its own.  most:
    images that the memory has room for; None: as many as the check takes."""
    config, ranks = run.config, run.ranks
    if state is not None:
        name, force = state["precision"], config.amp_force
        stages = state.get("fp32_stages") or ()
        return resumed_precision(name, run.device, stages, force=force, ranks=ranks)
    return choose_precision(
        config,
        run.model,
        run.criterion.alone(),
        lambda: (batch.first(most or len(batch)) for batch in run.train_loader.epoch(0)),
        run.device,
        log,
        fresh=run.transferred is None,
        ranks=ranks,
    )


def safer_precision(
    now: Precision, rungs: list[str], failure: Failure, stages: tuple[str, ...]
) -> Precision:
    """After a failure: the same precision with more stages in float32 where that helps, else the
    first of ``rungs``, which is taken off.  stages: of the model, in order.  Raises RunError where
    none is left."""
    if failure.fp32_stages:
        kept = tuple(name for name in stages if name in failure.fp32_stages)
        return replace(now, reason=str(failure), fp32_stages=kept)
    if not rungs:
        raise RunError(f"no precision is left to fall back to: {failure}")
    name = rungs.pop(0)
    kept = () if name == "fp32" else now.fp32_stages
    return Precision(name, now.device_type, str(failure), kept)
