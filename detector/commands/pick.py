"""``det pick``: the images that are worth labeling first."""

from __future__ import annotations

from ...files.counted import counted
from ..options.active import PickConfig
from ..options.catalog import Command
from ..run.log import Log
from .looking import check_looks
from .outcome import Outcome
from .show import join


def execute(command: Command, config: PickConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check, look at the images, choose, and say where the list is."""
    config = check_looks(command, config, log)
    log.loading_torch()
    from ..examine.pick import pick

    result = pick(config, log)
    head = f"{counted(len(result['images']), 'image')} of {result['of']} chosen by {config.by}"
    lines = [head, f"list: {result['list']}", f"pictures: {result['sheet']}"]
    return Outcome(result, join(lines))
