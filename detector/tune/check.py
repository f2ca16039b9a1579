"""The checks of ``det tune`` before torch or Optuna is loaded."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from typing import Any

from ..options.errors import UsageError
from ..options.fields import options_of
from ..options.parse import parse
from ..options.ranges import read_ranges
from ..options.train import TrainConfig
from ..options.tune import SEARCH, TuneConfig
from ..record.tools import JSON, tools_of
from ..run.check import refuse
from ..run.folder import find_state
from ..run.rank_info import gpus_of
from ..train.check import check_train

STUDY = "study.db"
MAY_CHANGE = frozenset(
    (
        "trials", "time", "seeds", "device", "threads", "workers", "engine", "ray_address",
        "verbose", "resume", "project",
    )
)  # fmt: skip
"""Options that may be typed beside ``resume=``: they do not change what a trial is."""
NOT_FIXED = frozenset((*SEARCH, "project", "name", "exist_ok"))


def check_tune(config: TuneConfig, given: frozenset[str]) -> None:
    """Raise UsageError where a search cannot begin as asked for."""
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("det tune needs the package optuna: pip install 'yolodet[tune]'")
    refuse(
        [
            (
                config.engine == "ray" and importlib.util.find_spec("ray") is None,
                "engine=ray needs the package ray: pip install 'yolodet[tune,ray]'",
            ),
            (
                config.engine == "ray" and bool(gpus_of(config.device)),
                f"device={config.device}: Ray gives each trial its GPU; leave device= out, or use "
                "device=cpu",
            ),
            (
                config.ray_address is not None and config.engine != "ray",
                f"ray_address={config.ray_address} has no effect with engine=local; add engine=ray",
            ),
            (not config.save, "save=False: a search goes on from checkpoints; leave it out"),
            (not config.val, "val=False: a search needs an AP after every epoch; leave it out"),
            (
                JSON in tools_of(config.log),
                "log=json belongs to det train; det tune --json prints the result",
            ),
        ]
    )
    if config.resume is not None:
        find_state(config.resume, config.project, STUDY, "search")
        wrong = sorted(given - MAY_CHANGE)
        if wrong:
            raise UsageError(
                f"cannot change {', '.join(wrong)} of a search that has begun: start a new one"
            )
        return
    if config.ranges:
        read_ranges(config.ranges)
    base, base_given = training_of(config, given)
    check_train(base, base_given)


def fixed_words(config: TuneConfig, given: frozenset[str]) -> dict[str, Any]:
    """The options that all trials have: those that were given, and the number of epochs."""
    known, values = options_of(TrainConfig), asdict(config)
    if gpus := gpus_of(config.device):
        values["device"] = gpus[0]  # each worker names its own
    words = {name: values[name] for name in sorted(given - NOT_FIXED) if name in known}
    return {"data": config.data, "model": config.model, "epochs": config.epochs} | words


def training_of(config: TuneConfig, given: frozenset[str]) -> tuple[TrainConfig, frozenset[str]]:
    """The training of the defaults, for checks."""
    return parse(TrainConfig, {**fixed_words(config, given), "project": config.project})
