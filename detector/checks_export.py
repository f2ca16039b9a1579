"""What can be found wrong with det export before torch is loaded; the other checks are in
``checks.py``, those of the formats in ``export/options.py``."""

from __future__ import annotations

from pathlib import Path

from .checks import (
    check_common,
    check_data,
    check_device,
    check_trained,
    detect_pairs,
    refuse,
)
from .config_export import BenchExportConfig, ExportConfig
from .export.formats import format_of
from .export.kinds import choose
from .export.options import check_options, check_writable
from .parse import UsageError


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
        if config.int8 == "true":
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
    check_writable(Path(config.output) if Path(config.output).is_dir() else parent)
