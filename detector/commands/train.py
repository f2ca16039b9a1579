"""``det train``: train a detector, on one device or several."""

from __future__ import annotations

from ..checkpoints.check import named_start
from ..options.catalog import Command
from ..options.train import TrainConfig
from ..repeat.check import check_trainings
from ..run.log import Log
from ..run.rank_info import rank_info
from .closing import show_plan, show_several, show_training
from .outcome import Outcome


def execute(command: Command, config: TrainConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check the options, train, and show how good the result is."""
    here = rank_info()
    config, given = named_start(config, given, log if here.rank == 0 else None)
    if here.size == 1:  # several ranks check later, when rank 0 can report for all of them
        check_trainings(config, given)
    if here.rank == 0:
        log.loading_torch()
    from ..repeat.pipeline import train_all

    result = train_all(config, given, log)
    show = show_several if "runs" in result else show_training
    show = show_plan if config.dry_run else show
    return Outcome(result, show(result))
