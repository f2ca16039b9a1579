"""``det prune``: remove channels from a trained detector, and train what is left."""

from __future__ import annotations

from typing import Any

from ..compress.check import check_prune
from ..options.catalog import Command
from ..options.prune import PruneConfig
from ..run.log import Log
from .outcome import Outcome
from .show import absolute, join


def execute(command: Command, config: PruneConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check, prune, and show what it cost and gave."""
    config = check_prune(config, given)
    log.loading_torch()
    from ..compress.prune import prune

    result = prune(config, given, log)
    return Outcome(result, show_pruning(result))


def show_pruning(result: dict[str, Any]) -> str:
    """The first and the last detector in one line each, and what to type next."""
    whole, last = result["rows"][0], result["rows"][-1]
    lines = [
        f"AP {_ap(last)} with {last['gflops']:.2f} GFLOPs and {last['parameters']:,} parameters; "
        f"the whole detector: AP {_ap(whole)}, {whole['gflops']:.2f} GFLOPs, "
        f"{whole['parameters']:,} parameters"
    ]
    if last.get("seconds"):
        speed = whole["seconds"] / last["seconds"]
        lines.append(f"{speed:.2f} times as many images/s in ONNX Runtime on this machine")
    best = absolute(result["best"])
    lines += [f"pruned weights: {best}", f"next: det export format=onnx model={best}"]
    return join(lines)


def _ap(row: dict[str, Any]) -> str:
    return "none" if row["ap"] is None else f"{row['ap']:.3f}"
