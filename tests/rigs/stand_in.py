"""A training that takes no time: its AP is the height of a hill over its options; and
one that takes time, for processes that are killed."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from yolodet.detector.options.ranges import Range, read_ranges
from yolodet.detector.run.log import Log
from yolodet.detector.tune.study import Study
from yolodet.detector.tune.training import Objective, Result, Watch

SPACE = read_ranges("lr0=log:1e-4..1 momentum=0..1 mosaic=0..1 scale=0..0.99")
BEST = {"lr0": -2.3, "momentum": 0.7, "mosaic": 0.2, "scale": 0.6}
EPOCHS = 9


def height(values: Mapping[str, Any]) -> float:
    """A hill whose top, 1, is at BEST."""
    place = {**values, "lr0": math.log10(values["lr0"])}
    return math.exp(-sum((place[n] - at) ** 2 for n, at in BEST.items()))


def fake(values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
    """A training that reaches the height of its options evenly, in EPOCHS epochs."""
    top = height(values or {"lr0": 0.02, "momentum": 0.9, "mosaic": 1.0, "scale": 0.5})
    for epoch in range(1, EPOCHS):
        if watch(epoch, top * epoch / EPOCHS):
            return Result(top * epoch / EPOCHS, epoch, 0.0)
    return Result(top, EPOCHS, 0.0)


def make_study(folder: Path, seed: int = 0, space: Mapping[str, Range] = SPACE) -> Study:
    folder.mkdir(exist_ok=True, parents=True)
    usual = {"lr0": 0.02, "momentum": 0.9, "mosaic": 1.0, "scale": 0.5}
    return Study(folder, space, usual, seed=seed, resource=EPOCHS)


def quiet() -> Log:
    return Log(verbose=False)


def make_slow(seconds: float, notes: Path, log: Log) -> Objective:
    """A stand-in whose epochs take time, and which notes its trial and process in a file."""

    def slow(values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
        with notes.open("a") as file:
            file.write(f"{folder.name} {os.getpid()}\n")

        def late(epoch: int, value: float) -> str | None:
            time.sleep(seconds)
            return watch(epoch, value)

        return fake(values, folder, late)

    return slow


def begun(notes: Path) -> list[tuple[str, int]]:
    """The trials that ``make_slow`` has begun, and their processes."""
    lines = notes.read_text().splitlines() if notes.is_file() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What ``condition`` says as soon as it says something."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)
    return found


def kill_once_begun(trial: str, notes: Path) -> None:
    """Kill the process of a trial in its middle, from another thread."""

    def kill() -> None:
        wait_for(lambda: trial in dict(begun(notes)))
        os.kill(dict(begun(notes))[trial], signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
