"""``det amp`` and ``det bench amp``: which precision is correct and fast here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from ..checkpoints.check import check_model
from ..options.amp import AmpConfig, BenchAmpConfig, ProbeConfig
from ..options.catalog import Command
from ..options.names import AUTO, PRECISIONS
from ..run.check import check_common, check_data, refuse
from ..run.log import Log
from ..train.stages import check_stages
from .outcome import Outcome
from .show import show_measured

ProbeT = TypeVar("ProbeT", bound=ProbeConfig)


def execute(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    """Check the options, measure, and show the verdict."""
    if command.path[0] == "bench":
        check_bench_amp(config)
        log.loading_torch()
        config = _settled(config, log)
        from ..examine.amp_bench import bench_amp

        result = bench_amp(config, log)
        return Outcome(result, show_measured(result))
    check_amp(config)
    log.loading_torch()
    config = _settled(config, log)
    from ..examine.amp_report import examine

    result = examine(config, log)
    return Outcome(result, show_measured(result), 0 if result["passed"] else 1)


def check_amp(config: AmpConfig) -> None:
    """Raise UsageError where there is nothing to examine, or nothing to examine it on."""
    _check_probe(config, config.amp_fp32)
    forced = config.amp_force and config.amp in ("auto", True, False)
    refuse([(forced, f"amp_force=True needs a named precision, not amp={config.amp}")])


def check_bench_amp(config: BenchAmpConfig) -> None:
    """Raise UsageError where there is nothing to measure, or an unknown precision is named."""
    _check_probe(config)
    for name in (part.strip() for part in (config.precisions or "fp32").split(",")):
        hint = f"unknown precision {name!r}, choose from {', '.join(PRECISIONS)}"
        refuse([(name not in PRECISIONS, f"precisions={config.precisions}: {hint}")])


def _settled(config: ProbeT, log: Log) -> ProbeT:
    """The config with what ``model=auto`` means: a checkpoint, as a training starts from it."""
    if config.model != AUTO:
        return config
    from ..checkpoints.fetch import settle

    with log.progress("weights", 0) as update:
        name, path = settle(offline=config.offline, log=log, on_progress=update)
    return replace(config, model=name if path is None else str(path))


def _check_probe(config: ProbeConfig, amp_fp32: tuple[str, ...] | None = None) -> None:
    check_common(config)
    if config.model != AUTO:
        check_model(config.model)
        check_stages(config.model, amp_fp32=amp_fp32)
    check_data(config.data_source, online=config.online)
