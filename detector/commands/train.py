"""``det train``: train a detector, on one device or several."""

from __future__ import annotations

from ..options.catalogue import Command
from ..options.train import TrainConfig
from ..run.log import Log
from ..run.rank_info import rank_info
from ..train.check import check_train
from .outcome import Outcome
from .show import show_run


def execute(command: Command, config: TrainConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check, train, and show how good the result is."""
    if rank_info().size == 1:  # several ranks check once all have met, so that one of them reports
        check_train(config, given)
    from ..train.pipeline import train  # torch, only now

    result = train(config, given, log)
    return Outcome(result, show_run(result))
