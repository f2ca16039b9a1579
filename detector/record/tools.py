"""The words of ``log=``: which tools record a training, and whether they can.

No tool is imported before a training asks for it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from ..options.errors import UsageError, did_you_mean
from ..run.log import Log
from ..run.observer import Observer

JSON = "json"
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
"""Tools that are extras -> the package that each one needs."""
TOOLS = (*PACKAGES, JSON)


def tools_of(word: str | None) -> tuple[str, ...]:
    """The tools that ``log=`` names, each once.  Raises UsageError for an unknown one."""
    names = [name.strip().lower() for name in (word or "").split(",") if name.strip()]
    for name in names:
        if name not in TOOLS:
            fix = did_you_mean(name, TOOLS) or f"choose from {', '.join(TOOLS)}"
            raise UsageError(f"log={name}: det knows no such tool; {fix}")
    return tuple(dict.fromkeys(names))


def check_log(word: str | None) -> None:
    """Raise UsageError where ``log=`` names an unknown tool, or one that is not installed."""
    for name in tools_of(word):
        package = PACKAGES.get(name)
        if package and importlib.util.find_spec(package) is None:
            raise UsageError(
                f"log={name} needs the package {package}: pip install 'yolodet[{name}]', or leave "
                f"{name} out"
            )


def recorders(word: str | None, log: Log, *, offline: bool) -> Iterator[Observer]:
    """One observer per tool of ``log=``.  offline: no tool may use the network."""
    for name in tools_of(word):
        if name == JSON:
            from .json_lines import JsonLines

            yield JsonLines(log.event)
        elif name == "tensorboard":
            from .tensorboard_run import TensorBoard

            yield TensorBoard(log.info)
        elif name == "wandb":
            from .wandb_run import WeightsAndBiases

            yield WeightsAndBiases(log.info, offline=offline)
        else:
            from .mlflow_run import MLflow

            yield MLflow(log.info, offline=offline)
