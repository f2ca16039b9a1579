"""The plot of a training run: losses, learning rate, AP and precision per epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .figure import ACCENT, INK, legend, new_figure, save_figure, say_nothing_to_show, style

BANDS = {"fp32": "#6b7180", "bf16": "#2a9d5a", "fp16": "#f48c06"}


def plot_results(results: Path | Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss parts, learning rate, AP, precision and recall per epoch.

    results: rows with ``epoch``, ``train/*_loss``, ``val/*_loss``, ``lr*`` and ``metrics/*``, or
    the CSV file that holds them.  A panel without columns is left out; other columns are ignored.
    """
    rows = _read_csv(results) if isinstance(results, Path) else list(results)
    known = [
        name
        for name in (rows[0] if rows else ())
        if name == "precision" or any(math.isfinite(_number(row.get(name))) for row in rows)
    ]
    panels = [(t, c) for t, c in _result_panels(known) if c]
    eventful = "precision" in known and _eventful(rows)
    count = len(panels) + eventful
    columns = min(3 if count <= 6 else 4, max(1, count))
    lines = max(1, math.ceil(count / columns))
    figure = new_figure(4.3 * columns, 3.1 * lines)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_visible(bool(not panels))
    if not panels:
        style(grid[0], "Training", "Epoch")
        say_nothing_to_show(grid[0], "no epoch has finished")
    for axes, (title, names) in zip(grid, panels, strict=False):
        style(axes, title, "Epoch")
        _epoch_lines(axes, rows, names)
    if eventful:
        _precision(grid[count - 1], rows)
    save_figure(figure, path)


def _eventful(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is anything to see of the precision: fp32 without a skipped update has none."""
    return any(row["precision"] != "fp32" or _number(row.get("skipped", 0)) > 0 for row in rows)


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _result_panels(columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Title and columns (column -> name in the legend) of every panel."""
    losses: dict[str, dict[str, str]] = {}
    for column in columns:
        split, _, name = column.partition("/")
        if name.endswith("loss"):
            part = name.removesuffix("loss").strip("_") or "total"
            losses.setdefault(part, {})[column] = split
    titles = {"box": "Box loss", "cls": "Class loss", "dfl": "Distance loss", "total": "Loss"}
    panels = [(titles.get(part, f"{part} loss"), names) for part, names in losses.items()]
    rates = {c: c for c in columns if c == "lr" or c.startswith("lr/")}
    ap = {"metrics/map_50": "AP50", "metrics/map_75": "AP75", "metrics/map": "AP"}
    pr = {"metrics/precision": "precision", "metrics/recall": "recall", "metrics/f1": "F1"}
    panels.append(("Learning rate", rates))
    panels.append(("Average precision", {c: n for c, n in ap.items() if c in columns}))
    panels.append(("At the best confidence", {c: n for c, n in pr.items() if c in columns}))
    return panels


def _epoch_lines(axes: Axes, rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> None:
    """One line per column; the best AP is marked."""
    epochs = np.array([_number(row.get("epoch")) for row in rows])
    colors = (ACCENT, "#f48c06", "#2a9d5a", "#de4fa0")
    for i, (column, name) in enumerate(names.items()):
        values = np.array([_number(row.get(column)) for row in rows])
        known = np.isfinite(values)
        (line,) = axes.plot(
            epochs[known],
            values[known],
            marker="o" if known.sum() < 25 else "",
            markersize=3,
            linewidth=1.6,
            color=INK if name == "AP" else colors[i % len(colors)],
            label=name if len(names) > 1 else None,
        )
        if name == "AP" and known.any():
            best = int(np.flatnonzero(values == np.nanmax(values))[-1])  # the newest of equals
            axes.plot([epochs[best]], [values[best]], "o", color=INK, markersize=6)
            label = f"AP, {values[best]:.3f} in epoch {epochs[best]:.0f}"
            line.set_label(label)
    axes.set_ylim(0, 1.08 * _top(rows, names))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend(axes, loc="best")


def _top(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> float:
    """The largest value, unless a few epochs stand out so far that all others would look flat."""
    values = np.array([_number(row.get(name)) for row in rows for name in names])
    values = values[np.isfinite(values)]
    if not values.size or values.max() <= 0:
        return 1.0
    usual = 3 * float(np.percentile(values, 90))
    return min(float(values.max()), usual) if usual > 0 else float(values.max())


def _precision(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """One named band per precision; the loss scale; updates skipped so far."""
    style(axes, "Precision", "Epoch", "loss scale")
    epochs = np.array([_number(row.get("epoch")) for row in rows])
    names = [str(row["precision"]) for row in rows]
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        left, right = epochs[start] - 0.5, epochs[end - 1] + 0.5
        axes.axvspan(left, right, color=BANDS[names[start]], alpha=0.16, linewidth=0)
        axes.text((left + right) / 2, 0.95, names[start], transform=axes.get_xaxis_transform(),
                  ha="center", va="top", fontsize=9, color=INK)  # fmt: skip
    scale = np.array([_number(row.get("loss_scale", 1.0)) for row in rows])
    skipped = np.array([_number(row.get("skipped", 0)) for row in rows])
    axes.plot(epochs, scale, color=ACCENT, linewidth=1.6, drawstyle="steps-mid", label="loss scale")
    axes.set_yscale("log", base=2)
    axes.set_ylim(0.5, 4 * max(float(np.nanmax(scale)), 2.0))
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    counts = axes.twinx()
    style(counts, "", y="skipped updates")
    counts.grid(False)
    counts.plot(epochs, skipped, color=INK, linewidth=1.2, linestyle="--", drawstyle="steps-mid")
    counts.set_ylim(0, max(1.3 * float(np.nanmax(skipped)), 5))
    counts.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.plot([], [], color=INK, linewidth=1.2, linestyle="--", label="skipped updates")
    legend(axes, loc="center right")


def _number(value: Any) -> float:
    """A cell as a number; nan if it is empty or missing."""
    return math.nan if value is None or value == "" else float(value)
