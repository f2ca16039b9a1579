"""``det export`` and ``det bench export``: write files for other runtimes, and compare them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...weights.zoo import ZOO
from ..checkpoints.check import check_trained, detect_pairs
from ..export.check import check_options
from ..export.targets import choose
from ..options.catalogue import Command
from ..options.errors import UsageError
from ..options.export import BenchExportConfig, ExportConfig
from ..options.formats import format_of
from ..run.check import check_common, check_data, check_device, refuse
from ..run.folder import check_writable
from ..run.log import Log
from .outcome import Outcome
from .show import show_exports, show_measured


def execute(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    """Check, write the files or compare all of them, and show the result."""
    if command.path[0] == "bench":
        check_bench_export(config, given)
        result = bench_export(config, given, log)
        return Outcome(result, show_measured(result))
    check_export(config, given)
    result = export(config, given, log)
    return Outcome(result, show_exports(result), 0 if result["passed"] else 1)


def check_export(config: ExportConfig, given: frozenset[str] = frozenset()) -> None:
    """Raise UsageError where there is nothing to export or it can not be meant so, MissingPackage
    where a format's packages are not installed."""
    if config.device is not None:
        check_device(config.device, trains=False)
    check_options(config, given)
    refuse(detect_pairs(config, given))
    _check_checkpoint(config)
    if config.data is not None:
        check_data(config.data, config.split, download=config.download and not config.offline)
        if config.int8 is True:
            check_data(config.data, "train", download=config.download and not config.offline)
    _check_folder(config)


def check_bench_export(config: BenchExportConfig, given: frozenset[str] = frozenset()) -> None:
    """Raise UsageError where there is nothing to compare or it can not be meant so."""
    check_common(config)
    for_data = ("split", "fraction", "calibration", "seed", "max_drop")
    idle = next((name for name in for_data if name in given and config.data is None), None)
    refuse(
        [
            (
                config.device not in (None, "cpu"),
                f"device={config.device}: files are measured on the CPU; leave it out",
            ),
            (idle is not None, f"{idle}= has no effect without data=: leave it out"),
            (config.fraction == 0, "fraction=0 leaves no image to compare on"),
        ]
    )
    _check_checkpoint(config)
    choose(config.formats, data=config.data is not None, calibration=config.calibration)
    if config.data is not None:
        online = config.download and not config.offline
        for split in (config.split, "train"):
            check_data(config.data, split, download=online)


def _check_checkpoint(config: ExportConfig | BenchExportConfig) -> None:
    """``model=`` is there, and is no exported file."""
    check_trained(config)
    if config.model is not None and format_of(config.model) is not None:
        raise UsageError(f"model={config.model} is exported already: name its checkpoint")


def _check_folder(config: ExportConfig) -> None:
    """``output=`` lies in a folder that is there and can be written into."""
    if config.output is None:
        return  # beside the checkpoint: looked at when it has been found
    parent = Path(config.output).parent
    if not parent.is_dir():
        raise UsageError(f"output={config.output}: there is no folder {parent}: make it first")
    check_writable(Path(config.output) if Path(config.output).is_dir() else parent, "output")


def export(config: ExportConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Write a checkpoint in other formats and compare each file with it.

    Returns one entry a file under ``exports``; ``passed``: all of them answer the same.
    """
    from ..checkpoints.load import find_weights, load_checkpoint
    from ..export.export import export as export_checkpoint
    from ..run.device import pick_device, use_threads

    use_threads(config.threads)
    path = find_weights(config, log)
    model, meta = load_checkpoint(path, pick_device(config.device or "cpu"), log)
    return export_checkpoint(config, path, meta, model, fetched=config.model in ZOO, log=log)


def bench_export(config: BenchExportConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Write a checkpoint in every format and precision that can be run here, and compare the files.

    Leaves a run folder; returns what bench_export.json holds.
    """
    from ..checkpoints.load import find_weights, load_checkpoint
    from ..examine.export_bench import bench_export as compare
    from ..run.device import pick_device, use_threads

    use_threads(config.threads)
    path = find_weights(config, log)
    model, meta = load_checkpoint(path, pick_device("cpu"), log)
    return compare(config, path, meta, model, log)
