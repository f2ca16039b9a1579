"""Trials of precisions; where single stages fail in one, again with these stages in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..run.ranks import ALONE, Ranks
from .agree import agree
from .sanity import Trial, failing_stages

ROUNDS = 3
"""Times that further stages are put into float32 before a precision is given up."""

Measure = Callable[[Mapping[str, tuple[str, ...]]], list[Trial]]
"""Precision -> stages in float32, to the trials of fp32 and of each precision, in this order."""


def try_precisions(
    measure: Measure,
    names: Sequence[str],
    stages: Sequence[str],
    kept: Sequence[str] = (),
    ranks: Ranks = ALONE,
) -> list[Trial]:
    """The trials of float32 and of ``names``, in this order, then those with further stages in
    float32.

    stages: of the model, in the order of the data path.  kept: those that are in float32 in every
    trial.  All ranks put the same stages into float32: those that fail on any of them.
    """
    own = measure(dict.fromkeys(names, tuple(kept)))
    trials = agree(ranks.gather(own))
    for name, mine, latest in list(zip(names, own[1:], trials[1:], strict=True)):
        for _ in range(ROUNDS):
            guilty = set().union(*ranks.gather(failing_stages(mine)))
            wanted = tuple(s for s in stages if s in guilty or s in latest.fp32_stages)
            if latest.problem is None or len(wanted) == len(latest.fp32_stages):
                break
            again = measure({name: wanted})
            mine, (base, latest) = again[1], agree(ranks.gather(again))
            fastest = min(trials[0].step_ms, base.step_ms)  # the same work, measured again
            trials = [replace(trials[0], step_ms=fastest), *trials[1:], latest]
    return trials
