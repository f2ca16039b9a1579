"""Speed of several files in interleaved rounds, so that other load on the machine affects all of
them equally."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ..formats.interface import Runner

WARM_UP = 2
"""Runs per file and round that are not counted: threads of the last file may still be spinning."""


def run_interleaved(
    runners: Mapping[str, Runner],
    inputs: Mapping[str, Sequence[np.ndarray]],
    rounds: int,
    each: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[list[float]]]:
    """Seconds of every run: name -> rounds -> ``each`` runs.  Every second round is in reverse
    order.  inputs: per file, the batches that it takes, used in turn."""
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


@contextlib.contextmanager
def parallel_calls(copies: Mapping[str, Sequence[Runner]]) -> Iterator[dict[str, Runner]]:
    """One runner per file that calls all its copies with the same images at once, one thread per
    copy, and waits for the last.  copies: each loaded for one thread; torch has one thread too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    most = max((len(each) for each in copies.values()), default=1)

    def together(mine: Sequence[Runner]) -> Runner:
        def run(images: np.ndarray) -> list[np.ndarray]:
            answers = [pool.submit(runner, images) for runner in mine]
            first, *_ = [answer.result() for answer in answers]  # all are waited for
            return first

        return run

    try:
        with ThreadPoolExecutor(most) as pool:
            yield {name: together(mine) for name, mine in copies.items()}
    finally:
        torch.set_num_threads(before)


def timed(runner: Runner, images: np.ndarray) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    runner(images)
    return time.perf_counter() - started
