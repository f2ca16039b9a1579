"""One precision for all ranks of a run: the result of the worst rank counts.

Each rank checks its own device and its own part of the first batch.  A precision is used if no
device has an objection, it passed on every rank, and it is faster on the slowest rank, for which
all others wait in each step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..run.hardware import DeviceTraits, objection
from ..run.ranks import Ranks
from .precision import DTYPES
from .sanity import Trial


def objections(traits: DeviceTraits, ranks: Ranks) -> dict[str, str]:
    """Precision -> what is known against it on the device of any rank (the first that objects)."""
    own = {name: text for name in DTYPES if (text := objection(traits, name))}
    return merge_objections(ranks.gather(own))


def merge_objections(objections: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Precision -> the first objection of any rank, with the rank's number unless it is 0."""
    found: dict[str, str] = {}
    for rank, own in enumerate(objections):
        for name, text in own.items():
            found.setdefault(name, _of_rank(rank, text) if rank else text)
    return found


def agree(evidence: Sequence[Sequence[Trial]]) -> list[Trial]:
    """One Trial per precision from those of all ranks, which tried the same ones in the same
    order."""
    return [_worst(trials) for trials in zip(*evidence, strict=True)]


def _worst(trials: Sequence[Trial]) -> Trial:
    """The first with a problem, else the one whose loss differs most; with the longest time, the
    largest memory and the smallest loss scale of all ranks."""
    if len(trials) == 1:
        return trials[0]
    failed = [rank for rank, trial in enumerate(trials) if trial.problem]
    rank = failed[0] if failed else max(range(len(trials)), key=lambda r: trials[r].loss_error)
    problem = trials[rank].problem
    return replace(
        trials[rank],
        scale=min(trial.scale for trial in trials),
        step_ms=max(trial.step_ms for trial in trials),
        saved_bytes=max(trial.saved_bytes for trial in trials),
        peak_bytes=max(trial.peak_bytes for trial in trials),
        problem=_of_rank(rank, problem) if problem else None,
    )


def _of_rank(rank: int, text: str) -> str:
    return f"rank {rank}: {text}"
