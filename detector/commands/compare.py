"""``det compare``: whether one detector is better than another, with error bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..checkpoints.check import find_trained
from ..options.catalog import Command
from ..options.compare import CompareConfig
from ..options.errors import UsageError
from ..options.val import ValConfig
from ..run.check import check_data, check_device
from ..run.log import Log
from .outcome import Outcome
from .show import join


def execute(command: Command, config: CompareConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check, measure both, and show the difference."""
    config = check_compare(config)
    log.loading_torch()
    from ..checkpoints.compare import compare_models

    result = compare_models(config, given, log)
    return Outcome(result, show_comparison(result))


def check_compare(config: CompareConfig) -> CompareConfig:
    """The config with both detectors found.  Raises UsageError."""
    if config.a is None or config.b is None:
        raise UsageError("name two detectors: det compare runs/a runs/b data=my.yaml")
    if config.data is None:
        raise UsageError("name the data to compare on, e.g. data=my.yaml")
    if config.device is not None:
        check_device(config.device, trains=False)
    check_data(config.data_source, config.split, online=config.online)
    base = ValConfig(offline=config.offline, accept_license=config.accept_license)
    found = [find_trained(replace(base, model=model)).model for model in (config.a, config.b)]
    return replace(config, a=found[0], b=found[1])


def show_comparison(result: Mapping[str, Any]) -> str:
    """A line per class, all classes, and the verdict."""
    rows = [*result["per_class"], {**result, "name": "all"}]
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'':<{width}}      a      b   b - a   {100 * result['level']:g} % interval"]
    lines += [_line(row, width) for row in rows if row["difference"] is not None]
    return join([*lines, result["verdict"]])


def _line(row: Mapping[str, Any], width: int) -> str:
    return (
        f"{row['name']:<{width}}  {row['ap_a']:.3f}  {row['ap_b']:.3f}  {row['difference']:+.3f}   "
        f"{row['low']:+.3f} to {row['high']:+.3f}{' clear' if row['clear'] else ''}"
    )
