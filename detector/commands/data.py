"""``det data check`` and ``det data shapes``: look through a data set, or draw one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..options.catalog import Command
from ..options.errors import UsageError
from ..run.check import refuse_options_file
from ..run.log import Log
from .outcome import Outcome
from .show import join, show_report


def execute(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    """Look through a data set, or draw one."""
    return _data_shapes(config, log) if command.path[-1] == "shapes" else _data_check(config, log)


def _data_check(config: Any, log: Log) -> Outcome:
    from ...datasets.scan.doctor import check_dataset
    from ...datasets.sets.locate import find_yaml, load_dataset

    refuse_options_file(find_yaml(config.data), config.data)
    with log.progress("downloading", 0) as update:
        dataset = load_dataset(
            config.data, download=config.download, on_message=log.message, on_progress=update
        )
    with log.progress("checking", 0) as update:
        report = check_dataset(dataset, on_progress=update)
    return Outcome(report.to_dict(), show_report(report), 1 if report.count("error") else 0)


def _data_shapes(config: Any, log: Log) -> Outcome:
    val = max(config.n // 5, 1) if config.val is None else config.val
    train = config.n - val - config.test
    if train < 1:
        held = f"val={val} and test={config.test}"
        raise UsageError(f"n={config.n} with {held} leaves no image for training: use a larger n")
    from ...datasets.drawn.shapes import write_shapes

    with log.progress("drawing", config.n, report=True) as update:
        path = write_shapes(
            Path(config.out), train=train, val=val, test=config.test, seed=config.seed,
            size=config.imgsz, on_progress=update,
        )  # fmt: skip
    result = {"data": str(path), "train": train, "val": val, "test": config.test}
    return Outcome(result, join([f"drawn: {path}", f"next: det train data={path}"]))
