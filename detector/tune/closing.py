"""The end of a search: the best setting and the defaults, trained again with new seeds.

The best of many trials is partly the luckiest.  New seeds show what is left of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ..run.folder import is_finished
from ..run.log import Log
from .crew import run_all
from .training import Objective, Result, result_of

SETTINGS = ("best", "defaults")
SURE = 2.0
"""Standard errors by which the mean difference has to differ from 0."""


@dataclass(frozen=True)
class Closing:
    """AP by seed, of the best setting and of the defaults."""

    best: Sequence[float]
    defaults: Sequence[float]

    @property
    def verdict(self) -> str:
        """The comparison in one line."""
        count = len(self.best)
        if count < len(self.defaults) or not count:
            return ""
        seeds = "1 new seed" if count == 1 else f"{count} new seeds"
        return (
            f"trained again with {seeds}: best setting {_spread(self.best)}, defaults "
            f"{_spread(self.defaults)}: {self._judged()}"
        )

    def _judged(self) -> str:
        gains = [b - d for b, d in zip(self.best, self.defaults, strict=True)]
        if not any(gains):
            return "the same"
        if len(gains) == 1:
            return f"{gains[0]:+.3f}; one seed shows no spread, use seeds=3 to see it"
        error = stdev(gains) / math.sqrt(len(gains))
        if abs(mean(gains)) > SURE * error:
            return f"the best setting is {'better' if mean(gains) > 0 else 'worse'} by " \
                   f"{abs(mean(gains)):.3f}"  # fmt: skip
        return "no difference that these seeds can show"


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{mean(values):.3f} ± {stdev(values):.3f}"


def train_again(
    folder: Path,
    best: Mapping[str, Any],
    objective: Objective,
    seeds: Sequence[int],
    log: Log,
) -> Closing:
    """Train both settings with each of ``seeds``; trainings that are done are not repeated.  best:
    the options of the best trial, {} where the defaults are the best."""
    found: dict[tuple[str, int], float] = {}

    def train(name: str, seed: int) -> None:
        words = {**(best if name == "best" else {}), "seed": seed}
        result = _once(folder / "closing" / f"{name}-seed{seed}", words, objective)
        log.info(f"seed {seed}, {name}: AP {result.value:.3f}")
        found[name, seed] = result.value

    names = SETTINGS if best else SETTINGS[1:]  # else they are the same trainings
    run_all(objective, [partial(train, name, seed) for seed in seeds for name in names])
    defaults = [found["defaults", seed] for seed in seeds]
    return Closing([found["best", seed] for seed in seeds] if best else defaults, defaults)


def _once(folder: Path, words: Mapping[str, Any], objective: Objective) -> Result:
    """The result of a training that may have been done before."""
    if is_finished(folder):
        return result_of(folder)
    return objective(words, folder, lambda epoch, value: None)
