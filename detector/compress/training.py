"""A training inside a larger whole: done once, and continued where it was stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..options.parse import parse
from ..options.train import TrainConfig
from ..run.folder import BEST, LAST, RunFinished, is_finished
from ..run.log import Log
from ..train.pipeline import train


def train_once(
    folder: Path, begin: tuple[TrainConfig, frozenset[str]], machine: Mapping[str, Any]
) -> Path:
    """The best weights of the run ``folder``.

    begin: config and given options of a new run there.  machine: words that may differ when it
    goes on, such as device.  Raises what a training raises."""
    options, given = begin
    if not is_finished(folder):
        if (folder / LAST).is_file():
            options, given = parse(TrainConfig, {**machine, "resume": str(folder)})
        with contextlib.suppress(RunFinished):
            train(options, given, Log(verbose=begin[0].verbose))
    return folder / BEST
