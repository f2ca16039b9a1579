"""Pictures of a pruning: how sensitive each group is, and what the steps gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluate.figure import (
    ACCENT,
    HEAT,
    INK,
    SOFT,
    legend,
    name_points,
    new_figure,
    save_figure,
    style,
)


def plot_sensitivity(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A row per group in the order of the data path: the rise of the loss for each number of
    channels that was tried, and how many channels stay.

    rows: group, parts, width, kept, tried and rise of each group."""
    figure = new_figure(11.0, 1.6 + 0.2 * max(len(rows), 1))
    left, right = figure.subplots(1, 2, sharey=True)
    names = [f"{row['group']} ({row['parts']} x {row['width']})" if row["parts"] > 1
             else f"{row['group']} ({row['width']})" for row in rows]  # fmt: skip
    places = np.arange(len(rows))
    style(left, "Rise of the loss, one group narrowed", "loss per image, on training images")
    shares = (0.75, 0.5, 0.25)
    for share, color in zip(shares, (HEAT(0.35), HEAT(0.6), HEAT(0.95)), strict=True):
        left.scatter(
            [_rise_at(row, share) for row in rows], places, s=26, color=color, zorder=3,
            label=f"{share:.0%} of the channels stay",
        )  # fmt: skip
    left.set_xscale("symlog", linthresh=0.01)
    left.set_xlim(-0.002, 1.2 * max([row["rise"][-1] for row in rows] + [0.1]))
    figure.legend(*left.get_legend_handles_labels(), frameon=False, fontsize=8, labelcolor=INK,
                  loc="outside lower left", ncols=3)  # fmt: skip
    style(right, "Channels", "share of the group")
    right.barh(places, [1.0] * len(rows), 0.7, color="#eef1f5")
    kept = [row["kept"] / row["width"] for row in rows]
    right.barh(places, kept, 0.7, color=ACCENT)
    for place, row, share in zip(places, rows, kept, strict=True):
        right.annotate(str(row["kept"]), (share, place), (3, 0), textcoords="offset points",
                       va="center", fontsize=7, color=INK if share < 1 else SOFT)  # fmt: skip
    right.set_xlim(0, 1.08)
    left.set_yticks(places, names, fontsize=7)
    left.set_ylim(len(rows) - 0.4, -0.6)
    right.grid(False, axis="y")
    save_figure(figure, path)


def _rise_at(row: Mapping[str, Any], share: float) -> float:
    return float(np.interp(share * row["width"], row["tried"][::-1], row["rise"][::-1]))


def plot_pruning(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """AP against GFLOPs, from the whole detector to the last step."""
    figure = new_figure(6.5, 4.2)
    axes = figure.subplots()
    style(axes, "Pruning", "GFLOPs per image (deployed)", "AP")
    x = [row["gflops"] for row in rows]
    y = [0.0 if row["ap"] is None else row["ap"] for row in rows]
    axes.plot(x, y, "-o", color=ACCENT, linewidth=1.6, markersize=5)
    axes.set_xlim(0, 1.12 * max(x))
    axes.set_ylim(0, 1.15 * max([*y, 0.01]))
    points = list(zip(x, y, strict=True))
    names = [f"{row['name']}, {ap:.3f}" for row, (_, ap) in zip(rows, points, strict=True)]
    name_points(axes, names, points)
    save_figure(figure, path)


def plot_compression(
    rows: Sequence[Mapping[str, Any]], chosen: str, max_drop: float, path: Path
) -> None:
    """AP against the time per image and against the size of the file; a line joins the files that
    no cheaper one equals.

    rows: as results.json holds them, the whole detector in fp32 first."""
    figure = new_figure(11.0, 4.8)
    known = [row for row in rows if row["passed"] and row["ap"] is not None]
    panels = figure.subplots(1, 2, sharey=True)
    titles = (("ms", "ms per image"), ("bytes", "MB"))
    for axes, (cost, unit) in zip(panels, titles, strict=True):
        scale = 1e6 if cost == "bytes" else 1.0
        style(axes, "AP by " + ("size" if cost == "bytes" else "latency"), unit, "AP")
        best = [row for row in known if cost in row["best"]]
        best.sort(key=lambda row: float(row[cost]))
        axes.plot([row[cost] / scale for row in best], [row["ap"] for row in best], color=SOFT,
                  linewidth=1.0)  # fmt: skip
        points = [(row[cost] / scale, row["ap"]) for row in known]
        for row, point in zip(known, points, strict=True):
            color = ACCENT if row["name"] == chosen else HEAT(0.35)
            axes.scatter(*point, s=60, color=color, zorder=3)
        axes.axhline(known[0]["ap"] - max_drop, color=INK, linewidth=1.0, linestyle="--",
                     label=f"{known[0]['name']} - {max_drop:g}")  # fmt: skip
        axes.set_xlim(0, 1.15 * max(x for x, _ in points))
        axes.margins(y=0.2)
        legend(axes, loc="lower right")
        name_points(axes, [_named(row["name"], chosen) for row in known], points)
    save_figure(figure, path)


def _named(name: str, chosen: str) -> str:
    return f"{name} (deployed)" if name == chosen else name
