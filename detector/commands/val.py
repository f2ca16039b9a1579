"""``det val``: measure a checkpoint or an exported file on a data set."""

from __future__ import annotations

from ..checkpoints.check import find_trained, say_newest
from ..options.catalog import Command
from ..options.val import ValConfig
from ..run.check import check_common, check_data
from ..run.log import Log
from .outcome import Outcome
from .show import show_validation


def execute(command: Command, config: ValConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check, measure, and show the result."""
    found = check_val(config, given)
    log.loading_torch()
    from ..checkpoints.evaluate import val

    say_newest(config.model, found.model, log)
    result = val(found, given, log)
    return Outcome(result, show_validation(result))


def check_val(
    config: ValConfig, given: frozenset[str] = frozenset(), *, loaded: str | None = None
) -> ValConfig:
    """The config with its ``model=`` found.  Raises UsageError if there is nothing to measure, or
    nothing to measure it on.

    loaded: name of the model, if its file has been read already.
    """
    check_common(config)
    if loaded is None:
        config = find_trained(config)
    if config.data is not None:
        check_data(config.data_source, config.split, online=config.online)
    return config
