"""Plots of det amp (stages of a model) and det bench amp (precisions side by side)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from ..evaluate.figure import ACCENT, INK, SOFT, legend, new_figure, save_figure, style
from ..options.parse import show
from ..precision.sanity import MAX_OUTPUT_ERROR
from .layers import LayerReport, LayerStats

COLORS = {"fp32": "#9aa1ad", "tf32": "#2a9d5a", "bf16": ACCENT, "fp16": "#f48c06"}
BAR = 0.8
"""Share of a row that its bars fill."""


def plot_amp(report: LayerReport, line: str, path: Path) -> None:
    """Per stage: time in each precision, worst error of an output, largest value relative to
    fp16's, and share of gradients that fp16 loses.  line: the verdict, as title.

    Without a second precision there is no error to show, and its panel is left out."""
    stages = report.stages
    names = [stage.name for stage in stages]
    precisions = list(stages[0].ms)
    widths = (1.3, *(1,) * (2 if len(precisions) == 1 else 3))
    figure = new_figure(4 * len(widths) + 0.5, 1.6 + 0.36 * len(stages))
    figure.suptitle("\n".join(textwrap.wrap(line, 40 * len(widths))), x=0.01, ha="left",
                    fontsize=10.5, color=INK)  # fmt: skip
    panels = list(figure.subplots(1, len(widths), sharey=True, width_ratios=widths))
    time, reach, loss = panels[0], panels[-2], panels[-1]
    style(time, "Time of a stage", "ms, forward and backward")
    _bars(time, names, {p: [stage.ms[p] for stage in stages] for p in precisions})
    legend(time, loc="lower right")

    if len(precisions) > 1:
        style(panels[1], "Worst error of an output", "Relative to fp32, on equal inputs")
        worst = {p: [_worst(report, stage, p) for stage in stages] for p in precisions[1:]}
        _log_bars(panels[1], names, worst, 1e-4)
        _limit(panels[1], MAX_OUTPUT_ERROR, "limit")

    style(reach, "Largest number", "Share of 65504, fp16's largest")
    _log_bars(reach, names, {"largest": [stage.fp16_share for stage in stages]}, 1e-5)
    _limit(reach, 1.0, "overflow")

    style(loss, "Gradients that fp16 loses", "Share in the layer that loses most, %")
    lost = [max(100 * layer.lost for layer in _inside(report, stage)) for stage in stages]
    scaled = [max(100 * layer.lost_scaled for layer in _inside(report, stage)) for stage in stages]
    _bars(loss, names, {"fp16": lost, f"scaled by {report.fp16_scale:g}": scaled})
    loss.set_xlim(0, max(1.05 * max(lost), 1.0))
    legend(loss, loc="upper right")
    save_figure(figure, path)


def _worst(report: LayerReport, stage: LayerStats, precision: str) -> float:
    return max(layer.errors[precision].output for layer in (stage, *_inside(report, stage)))


def _inside(report: LayerReport, stage: LayerStats) -> list[LayerStats]:
    return [layer for layer in report.layers if layer.stage == stage.name]


def plot_bench_amp(result: Mapping[str, Any], path: Path) -> None:
    """Precisions side by side: speed, memory, energy where it was measured, loss, largest batch.

    result: as bench_amp.json holds it.
    """
    rows: Sequence[Mapping[str, Any]] = result["results"]
    panels = [(t, x, k, f) for t, x, k, f in _PANELS if any(row[k] is not None for row in rows)]
    lines = math.ceil(len(panels) / 3)
    figure = new_figure(13.0, 0.4 + lines * (1.2 + 0.36 * len(rows)))
    title = f"{result['model']}, {show(result['image_size'])} px, batch {result['batch']}"
    figure.suptitle(f"{title}, {result['hardware']}", x=0.01, ha="left", fontsize=10.5, color=INK)
    names = [row["precision"] for row in rows]
    grid = figure.subplots(lines, 3, sharey=True, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes, (heading, unit, key, factor) in zip(grid, panels, strict=False):
        style(axes, heading, unit)
        values = [(row[key] or 0.0) * factor for row in rows]
        colors = [COLORS[name] for name in names]
        spread = None
        if key == "images_per_s":
            ends = [row["spread"] for row in rows]
            spread = [[v - low, high - v] for v, (low, high) in zip(values, ends, strict=True)]
            spread = [list(side) for side in zip(*spread, strict=True)]
        axes.barh(names, values, BAR, color=colors, xerr=spread, error_kw={"ecolor": INK, "lw": 1})
        _write_values(axes, values, [row[key] for row in rows], spread)
        axes.grid(False, axis="y")
    grid[0].invert_yaxis()
    save_figure(figure, path)


_PANELS = (
    ("Speed", "Images per second", "images_per_s", 1.0),
    ("Peak memory", "GB on the device", "peak_bytes", 1e-9),
    ("Kept for the backward pass", "MB", "saved_bytes", 1e-6),
    ("Energy", "Joules per image", "joules_per_image", 1.0),
    ("Loss after the last step", "Per image", "final_loss", 1.0),
    ("Largest batch", "Images", "largest_batch", 1.0),
)
"""Heading, unit, key in a row, factor."""


def _write_values(
    axes: Axes, values: Sequence[float], known: Sequence[Any], spread: list[list[float]] | None
) -> None:
    """The number behind each bar; a dash where there is none."""
    ends = spread[1] if spread else [0.0] * len(values)
    for place, (value, end) in enumerate(zip(values, ends, strict=True)):
        text = "–" if known[place] is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"
        axes.annotate(
            text, (value + end, place), (4, 0), textcoords="offset points", va="center",
            fontsize=8.5, color=INK,
        )  # fmt: skip
    axes.set_xlim(0, 1.22 * max([v + e for v, e in zip(values, ends, strict=True)] + [1e-9]))


def _bars(axes: Axes, names: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    """Horizontal bars: one row per name from top to bottom, with one bar per series."""
    height = BAR / max(len(series), 1)
    for turn, (label, values) in enumerate(series.items()):
        places = [row - BAR / 2 + height * (turn + 0.5) for row in range(len(names))]
        axes.barh(places, values, height, color=COLORS.get(label, SOFT), label=label)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(False, axis="y")


def _log_bars(
    axes: Axes, names: Sequence[str], series: Mapping[str, Sequence[float]], low: float
) -> None:
    """Bars of shares on a logarithmic axis that begins at ``low``."""
    _bars(axes, names, series)
    top = max((value for values in series.values() for value in values), default=0.0)
    axes.set_xscale("log")
    axes.set_xlim(low, max(4.0 * top, 4.0))
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, place: f"{value * 100:g} %")


def _limit(axes: Axes, x: float, text: str) -> None:
    """A line that marks a limit."""
    axes.axvline(x, color="#e63946", linewidth=1.2, linestyle=(0, (4, 3)))
    axes.annotate(
        text, (x, 1), (3, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
        va="top", rotation=90, fontsize=7.5, color="#e63946",
    )  # fmt: skip
