"""``det export`` and ``det bench export``: write files for other runtimes, and compare them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from ...weights.zoo import ZOO
from ..checkpoints.check import find_trained, idle_nms, is_quantized, say_newest
from ..export.check import check_options
from ..export.targets import choose
from ..options.catalog import Command
from ..options.errors import UsageError
from ..options.export import BenchExportConfig, ExportConfig
from ..options.formats import format_of
from ..run.check import check_common, check_data, check_device, refuse
from ..run.folder import check_writable
from ..run.log import Log
from .outcome import Outcome
from .show import show_exports, show_measured

ConfigT = TypeVar("ConfigT", ExportConfig, BenchExportConfig)


def execute(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    """Check, write the files or compare all of them, and show the result."""
    benches = command.path[0] == "bench"
    found = check_bench_export(config, given) if benches else check_export(config, given)
    log.loading_torch()
    say_newest(config.model, found.model, log)
    if isinstance(found, BenchExportConfig):
        result = bench_export(found, given, log)
        return Outcome(result, show_measured(result))
    result = export(found, given, log)
    return Outcome(result, show_exports(result), 0 if result["passed"] else 1)


def check_export(config: ExportConfig, given: frozenset[str] = frozenset()) -> ExportConfig:
    """The config with its ``model=`` found.  Raises UsageError where there is nothing to export or
    options contradict each other, MissingPackage where a format's packages are not installed."""
    if config.device is not None:
        check_device(config.device, trains=False)
    asks = config.int8 is True and config.data is None
    kept = asks and is_quantized(_find_checkpoint(config).model)
    check_options(config, given, keeps_ranges=kept)
    config = _find_checkpoint(config)
    if config.data is not None:
        for split in (config.split, *["train"] * (config.int8 is True)):
            check_data(config.data_source, split, online=config.online)
    _check_folder(config)
    return config


def check_bench_export(
    config: BenchExportConfig, given: frozenset[str] = frozenset()
) -> BenchExportConfig:
    """The config with its ``model=`` found.  Raises UsageError where there is nothing to compare or
    options contradict each other."""
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
    config = _find_checkpoint(config)
    choose(config.formats, data=config.data is not None, calibration=config.calibration)
    if config.data is not None:
        for split in (config.split, "train"):
            check_data(config.data_source, split, online=config.online)
    return config


def _find_checkpoint(config: ConfigT) -> ConfigT:
    """``find_trained``, for what is not an exported file already."""
    if config.model is not None and format_of(config.model) is not None:
        find_trained(config)  # a file that does not exist is the first thing to say
        raise UsageError(f"model={config.model} is exported already: name its checkpoint")
    return find_trained(config)


def _check_folder(config: ExportConfig) -> None:
    """Raise UsageError where ``output=`` is in no folder that exists and can be written into."""
    if config.output is None:
        return  # beside the checkpoint: checked when that has been found
    parent = Path(config.output).parent
    if not parent.is_dir():
        raise UsageError(f"output={config.output}: make the folder {parent} first")
    check_writable(Path(config.output) if Path(config.output).is_dir() else parent, "output")


def export(config: ExportConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Write a checkpoint in other formats and compare each file with it.

    Returns one entry per file under ``exports``; ``passed``: all of them match the checkpoint.
    """
    from ..checkpoints.load import find_weights, load_checkpoint
    from ..evaluate.postprocess import uses_nms
    from ..export.export import export as export_checkpoint
    from ..run.device import pick_device, use_threads

    use_threads(config.threads)
    path = find_weights(config, log)
    model, meta = load_checkpoint(path, pick_device(config.device or "cpu"), log)
    log.once(idle_nms(config, given, used=uses_nms(config.nms, model.branches)))
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
