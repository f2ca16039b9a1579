"""The last words of ``det train``: how good the detector is, why no better, what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ..repeat.report import verdict
from .show import absolute, join, show_metrics


def show_training(result: Mapping[str, Any]) -> str:
    """The result in words, its likely reasons where it is poor, and the next commands."""
    lines = show_metrics(result.get("metrics") or {})
    best, epochs = result["best_epoch"], result["epochs"]
    if best >= 0:
        by = result.get("best_by", "AP")
        lines.append(f"best epoch: {best} of {epochs}" + ("" if by == "AP" else f", by {by}"))
    lines += [f"likely reason: {reason}" for reason in result.get("reasons", ())]
    lines.append(f"results: {absolute(result['folder'])}")
    if result.get("best"):
        lines += [f"best weights: {absolute(result['best'])}", "next:"]
        lines += [f"  {command}" for command in next_commands(result)]
    return join(lines)


def show_plan(result: Mapping[str, Any]) -> str:
    """What a run needs that was not begun; the rest has been said on stderr."""
    needed = result["memory"]["expected"] / 2**30
    return f"needs about {needed:.2f} GiB of memory; nothing was trained or written (dry_run=True)"


def show_several(result: Mapping[str, Any]) -> str:
    """The mean of several runs, where they are, and the weights of each."""
    lines = [verdict(result), f"results: {absolute(result['folder'])}", "best weights:"]
    lines += [f"  {absolute(row['best'])}" for row in result["runs"] if row["best"]]
    return join(lines)


def next_commands(result: Mapping[str, Any]) -> list[str]:
    """Measure, look, and export, as they can be typed in the folder where the run was started."""
    model = f"model={shlex.quote(result['folder'])}"
    image = shlex.quote(result.get("example") or "photo.jpg")
    conf = (result.get("metrics") or {}).get("best_conf")
    look = f"det predict {image}" + (f" conf={conf:.2g}" if conf else "")
    commands = ("det val", look, "det export format=onnx")
    return [f"{command} {model}" for command in commands]
