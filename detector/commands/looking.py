"""The checks of commands with which a detector looks at images, before torch is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..checkpoints.check import find_trained, say_newest
from ..options.active import DataErrorsConfig, LabelConfig, LooksConfig, PickConfig
from ..options.catalog import Command
from ..options.errors import UsageError
from ..options.predict import PredictConfig
from ..run.check import check_device, check_tile
from ..run.folder import check_writable, folds_in
from ..run.log import Log

LooksT = TypeVar("LooksT", LabelConfig, PickConfig, DataErrorsConfig)


def check_looks(command: Command, config: LooksT, log: Log) -> LooksT:
    """The config with its ``model=`` found.  Raises UsageError where data or model are missing, or
    the result cannot be written."""
    if config.data is None and not isinstance(config, DataErrorsConfig):
        raise UsageError(f"name the images: {command.example}")
    if config.device is not None:
        check_device(config.device, trains=False)
    check_tile(config)
    out = Path(config.out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"out={config.out} exists: name a new or an empty folder")
    check_writable(out.parent, "out")
    if isinstance(config, DataErrorsConfig) and folds_in(config.model):
        return config
    return replace(config, model=found_model(config, log))


def found_model(config: LooksConfig, log: Log) -> str | None:
    """The file that ``model=`` names."""
    asked = PredictConfig(
        model=config.model, project=config.project, offline=config.offline,
        accept_license=config.accept_license,
    )  # fmt: skip
    found = find_trained(asked).model
    say_newest(config.model, found, log)
    return found
