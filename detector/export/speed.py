"""How fast files are beside each other: they take turns, so that what else happens on the machine
meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .interface import Runner

WARM_UP = 2
"""Runs before each turn that are not counted: threads of the one before may still be spinning."""


def take_turns(
    runners: Mapping[str, Runner],
    inputs: Mapping[str, Sequence[np.ndarray]],
    rounds: int,
    each: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[list[float]]]:
    """Seconds of every run: name -> rounds -> ``each`` runs.  Rounds go forwards and backwards in
    turn.  inputs: images as the file of that name takes them, used one after another."""
    seconds: dict[str, list[list[float]]] = {name: [] for name in runners}
    for number in range(rounds):
        names = list(runners)
        for name in names if number % 2 == 0 else reversed(names):
            mine = inputs[name]
            for turn in range(WARM_UP):
                runners[name](mine[turn % len(mine)])
            seconds[name].append(
                [timed(runners[name], mine[(number * each + i) % len(mine)]) for i in range(each)]
            )
        if on_progress is not None:
            on_progress(number + 1, rounds)
    return seconds


def timed(runner: Runner, images: np.ndarray) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    runner(images)
    return time.perf_counter() - started
