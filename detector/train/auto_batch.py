"""``batch=auto`` and ``batch=0.8``: the largest batch that fits into memory, or into a share of it.

It is measured with real steps of the run in its precision, before the run: the parts of the run are
built twice, first to measure, then with the batch that was found.  From there on ``batch`` is a
number: in args.yaml, in the checkpoint and after a resume.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

from ...files.counted import counted
from ..options.errors import UsageError
from ..options.train import TrainConfig
from ..run.log import Log
from ..run.ranks import Ranks
from .assemble import assemble
from .decide import decide_precision
from .trial_step import TrialStep

MOST = 1024
"""Images per rank."""
LEAST_STEPS = 4
"""Batches that an epoch has at least: with fewer, a run has too few steps to learn."""
USUAL = 16
"""A batch that an epoch of any length may have."""
CLOSE = 1.05
"""The search ends where another measurement could not add more than this share."""
FARTHEST = 8
"""A batch is measured that is at most so many times the largest known to fit: the kernel ends a
process that goes beyond the memory of a CPU, so the way there is taken in steps."""


def settle_batch(config: TrainConfig, log: Log, ranks: Ranks) -> TrainConfig:
    """The config with a number in place of ``batch=auto`` or of a share, the same on all ranks.

    Raises UsageError if not even two images per rank fit, and what ``assemble`` raises."""
    if config.memory_share is None:
        return config
    start = replace(config, batch=USUAL * ranks.size)
    with contextlib.closing(assemble(start, log, ranks=ranks)) as run:
        precision = decide_precision(run, None, log).precision
        images = len(run.train.records) // ranks.size
        most = min(max(images // LEAST_STEPS, USUAL), MOST)
        step = TrialStep(run, precision)
        room = int(step.room * config.memory_share)
        with log.progress("measuring the batch that fits", 0) as update:

            def measure(count: int) -> int:
                update(count, 0, f"{count} images")
                return step(count)

            found, taken = largest_fitting(measure, room, most)
        step.end()
    if not found:
        raise UsageError(
            f"batch={config.batch}: not even two images fit into {room / 2**30:.2f} GiB: use a "
            "smaller imgsz= or model"
        )
    why = f"; more would leave an epoch fewer than {LEAST_STEPS} steps" if found == most else ""
    log.info(
        f"batch={config.batch}: {counted(found * ranks.size, 'image')}, measured: a step in "
        f"{precision.name} takes {taken / 2**30:.2f} of {room / 2**30:.2f} GiB"
        + (" per rank" if ranks.size > 1 else "")
        + why
    )
    return replace(config, batch=found * ranks.size)


def largest_fitting(measure: Callable[[int], int], room: int, most: int) -> tuple[int, int]:
    """The largest number of images up to ``most`` whose step takes at most ``room`` bytes, within
    CLOSE, and what it takes; (0, 0) if not even 2 fit.

    measure: images -> bytes of a step, or more than ``room`` where memory ran out.  What a step
    takes is nearly a straight line over the images, so few measurements lead there from below.
    """
    known: list[tuple[int, int]] = []
    fails, count = most + 1, min(2, most)
    while True:
        taken = measure(count)
        if taken > room:
            fails = count
        else:
            known.append((count, taken))
        if not known:
            return 0, 0
        known.sort()
        count = _next(known, room, fails)
        if (count < known[-1][0] * CLOSE and count < fails - 1) or count <= known[-1][0]:
            return known[-1]


def _next(known: list[tuple[int, int]], room: int, fails: int) -> int:
    """The number of images to measure next: where the line through the two largest meets
    ``room``, below what did not fit and not too far from what did."""
    images, taken = known[-1]
    fewer, less = known[-2] if len(known) > 1 else (0, 0)
    per_image = max((taken - less) / (images - fewer), 1.0)
    expected = images + int((room - taken) / per_image)
    if expected >= fails and fails <= images * FARTHEST:  # the line is wrong: halve the gap
        expected = (images + fails) // 2
    return min(expected, fails - 1, images * FARTHEST)
