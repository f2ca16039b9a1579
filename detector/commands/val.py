"""``det val``: measure a checkpoint or an exported file on a data set."""

from __future__ import annotations

from ..checkpoints.check import check_trained, detect_pairs
from ..options.catalogue import Command
from ..options.val import ValConfig
from ..run.check import check_common, check_data, refuse
from ..run.log import Log
from .outcome import Outcome
from .show import show_run


def execute(command: Command, config: ValConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check, measure, and show the result."""
    check_val(config, given)
    from ..checkpoints.evaluate import val  # torch, only now

    result = val(config, given, log)
    return Outcome(result, show_run(result))


def check_val(config: ValConfig, given: frozenset[str] = frozenset()) -> None:
    """Raise UsageError where there is nothing to measure, or nothing to measure it on."""
    check_common(config)
    refuse(detect_pairs(config, given))
    check_trained(config)
    if config.data is not None:
        check_data(config.data, config.split, download=not config.offline)
