"""The options of ``det tune``: those of ``det train``, and those of the search."""

# fmt: off: one option per paragraph
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .fields import option
from .train import TrainConfig


@dataclass(frozen=True, kw_only=True)
class TuneConfig(TrainConfig):
    """det tune: search for better training options: many trials, poor ones stopped early."""

    trials: int = option(
        30, "Search", "Number of settings to try. The first one is the defaults.", low=1)
    time: float | None = option(
        None, "Search", "Time limit of the search in hours (2h, 30m), the closing trainings "
        "included.", low=0.0)
    seeds: int = option(
        1, "Search", "At the end the best setting and the defaults are trained again with this "
        "many new seeds each.", low=0)
    workers: int | None = option(
        None, "Search", "Trials at once. They share the cores, and device=0,1 gives each its GPU. "
        "Default: one per GPU of device=, else one; with engine=ray as many as the cluster has "
        "room for.", low=1)
    engine: str = option(
        "local", "Search", "Where trials run: on this machine, or on a Ray cluster, one per GPU or "
        "per threads= CPU cores.", choices=("local", "ray"))
    ray_address: str | None = option(
        None, "Search", "Address of the Ray cluster, e.g. 10.0.0.1:6379. Default: RAY_ADDRESS, "
        "else the cluster that runs on this machine.")
    space: str | None = option(
        None, "Search", "YAML of the options to vary and their ranges (lr0: log:1e-4..1e-1). "
        "Default: learning rate, momentum, decay, gains, augmentation, warm-up and EMA.")
    ranges: str | None = option(
        None, "Search", "The same on the command line, e.g. 'lr0=log:1e-4..1e-1 mosaic=0..1'. "
        "Ranges may also be typed as options: mosaic=0..1 optimizer=MuSGD|AdamW.")
    without: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("dry_run", "folds"), "it belongs to det train"
    )
    resume: bool | str | None = option(
        None, "Search", "Go on with a search, or join one that runs: its run folder, or True for "
        "the newest one in project=.")


SEARCH = (
    "trials", "time", "seeds", "workers", "engine", "ray_address", "space", "ranges", "resume",
)
"""Options of the search itself, which no trial has."""
