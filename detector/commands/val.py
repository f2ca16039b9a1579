"""``det val``: measure a checkpoint or an exported file on a data set."""

from __future__ import annotations

from ..checkpoints.check import check_fused, find_trained, say_newest
from ..options.catalog import Command
from ..options.errors import UsageError
from ..options.fields import options_of
from ..options.parse import parse
from ..options.track import TrackConfig
from ..options.val import ValConfig
from ..run.check import check_common, check_data, check_tile
from ..run.log import Log
from ..track.mot import is_mot_folder
from . import track
from .outcome import Outcome
from .show import show_validation


def execute(command: Command, config: ValConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check, measure, and show the result.  On a MOT folder tracks are measured."""
    if is_mot_folder(config.data):
        return _tracks(command, config, given, log)
    found = check_val(config, given)
    log.loading_torch()
    from ..checkpoints.evaluate import val

    say_newest(config.model, found.model, log)
    result = val(found, given, log)
    return Outcome(result, show_validation(result))


def _tracks(command: Command, config: ValConfig, given: frozenset[str], log: Log) -> Outcome:
    """What ``det track data=`` does.  Raises UsageError for options that it does not have."""
    if idle := sorted(given - options_of(TrackConfig).keys()):
        raise UsageError(
            f"{idle[0]}= has no effect with data={config.data}, which has tracks: leave it out"
        )
    options, _ = parse(TrackConfig, {name: getattr(config, name) for name in given})
    return track.execute(command, options, given, log)


def check_val(
    config: ValConfig, given: frozenset[str] = frozenset(), *, loaded: str | None = None
) -> ValConfig:
    """The config with its ``model=`` found.  Raises UsageError if there is nothing to measure, or
    nothing to measure it on.

    loaded: name of the model, if its file has been read already.
    """
    if is_mot_folder(config.data):
        raise UsageError(f"data={config.data} has tracks: write det track data={config.data}")
    check_common(config)
    check_tile(config)
    if loaded is None:
        config = find_trained(config)
    check_fused(config)
    if config.data is not None:
        check_data(config.data_source, config.split, online=config.online)
    return config
