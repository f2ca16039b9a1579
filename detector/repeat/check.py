"""Trainings that are several (``folds=5``, ``seeds=3``): which ones, and whether they can start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..options.errors import UsageError
from ..options.train import TrainConfig
from ..run.check import refuse
from ..run.folder import LAST
from ..run.rank_info import gpus_of, rank_info
from ..train.check import check_train

PLAN = "repeat.json"
"""In the folder of several runs: how they are trained."""
MAY_CHANGE = frozenset(
    ("resume", "project", "device", "threads", "workers", "cache", "verbose", "plots", "log")
)
"""Options that may be typed beside ``resume=`` of several runs."""


def is_several(config: TrainConfig) -> bool:
    """Whether the options ask for more than one run."""
    return config.folds is not None or config.seeds > 1


def runs_of(config: TrainConfig) -> dict[str, dict[str, str | int]]:
    """The runs by name, each with the options that it has beside those of all."""
    if config.folds is not None:
        return {f"fold{k}": {"val": f"{k}of{config.folds}"} for k in range(1, config.folds + 1)}
    return {f"seed{s}": {"seed": s} for s in range(config.seed, config.seed + config.seeds)}


def find_several(config: TrainConfig) -> Path | None:
    """The folder of several runs that ``resume=`` names; None where it names something else.

    True stands for the newest run in ``project=``, be it one or several.
    """
    if config.resume is None:
        return None
    if isinstance(config.resume, str):
        folder = Path(config.resume)
        return folder if (folder / PLAN).is_file() else None
    project = Path(config.project)
    single = [path.stat().st_mtime for path in project.glob(f"*/{LAST}")]
    several = {
        path.parent: max([path.stat().st_mtime, *_times(path.parent)])
        for path in project.glob(f"*/{PLAN}")
    }
    if not several:
        return None
    newest = max(several, key=lambda folder: several[folder])
    return newest if several[newest] > max(single, default=0.0) else None


def _times(folder: Path) -> list[float]:
    return [path.stat().st_mtime for path in folder.glob(f"*/{LAST}")]


def check_trainings(config: TrainConfig, given: frozenset[str] = frozenset()) -> None:
    """``check_train`` of one run or of several.  Raises UsageError."""
    if find_several(config) is not None:
        if wrong := sorted(given - MAY_CHANGE):
            raise UsageError(
                f"cannot change {', '.join(wrong)} of runs that have begun: start new ones"
            )
        return
    if not is_several(config):
        check_train(config, given)
        return
    folds, devices = config.folds, max(rank_info().size, len(gpus_of(config.device)))
    word = f"seeds={config.seeds}" if folds is None else f"folds={folds}"
    refuse(
        [
            (folds is not None and config.seeds > 1, "give folds= or seeds=, not both"),
            (
                folds is not None and "val" in given,
                f"val={config.val} contradicts folds={folds}, which holds out a part of train: "
                "leave val= out",
            ),
            (
                folds is not None and config.split != "val",
                f"split={config.split} contradicts folds={folds}, which validates on a part of "
                "train: leave split= out",
            ),
            (devices > 1, f"{word} trains its runs one after another on one device: name one GPU"),
            (config.resume is not None, f"{word} has no effect with resume=: leave it out"),
            (config.dry_run, f"dry_run=True shows one run: leave out {word}"),
            (not config.save, f"save=False: the runs of {word} go on from checkpoints"),
        ]
    )
    first = next(iter(runs_of(config).values()))
    one = replace(config, folds=None, seeds=1, **first)  # type: ignore[arg-type]
    check_train(one, given - {"folds", "seeds"})
