"""Pictures of a run: curves, the confusion matrix, the course of training, data and detections.

Every function takes what it shows and the path to write; files appear whole or not at all.
Up to 20 classes are told apart by colour and named; more are a cloud behind their average.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import MaxNLocator

from .curves import class_mean
from .figure import (
    ACCENT,
    HEAT,
    INK,
    LINE,
    SOFT,
    legend,
    new_figure,
    plot_color,
    save_figure,
    say_nothing_to_show,
    shorten,
    style,
    unit_square,
)
from .metrics import Metrics
from .pictures import plot_batch, plot_detections, plot_labels

__all__ = [
    "plot_batch",
    "plot_confidence_curves",
    "plot_confusion_matrix",
    "plot_detections",
    "plot_labels",
    "plot_pr_curve",
    "plot_results",
]

NAMED_CLASSES = 20


def plot_pr_curve(metrics: Metrics, path: Path) -> None:
    """Precision against recall at IoU 0.5, each class and their average, with AP50."""
    figure = new_figure(7.6, 4.8)
    axes = figure.add_subplot()
    style(axes, "Precision and recall at IoU 0.5", "Recall", "Precision")
    unit_square(axes)
    names = [f"{shorten(row.name)}  {row.ap_50:.3f}" for row in metrics.per_class]
    whole = f"all classes  {metrics.map_50:.3f}"
    _class_lines(axes, metrics.curves.recalls, metrics.curves.pr, names, whole)
    legend(axes, title="AP50", **_OUTSIDE)
    save_figure(figure, path)


def plot_confidence_curves(metrics: Metrics, path: Path) -> None:
    """F1, precision and recall against the confidence, with the best confidence marked."""
    figure = new_figure(13, 4.2)
    panels = figure.subplots(1, 3, sharey=True)
    curves, conf = metrics.curves, metrics.best_conf
    shown = (
        ("F1", curves.f1, metrics.f1),
        ("Precision", curves.precision, metrics.precision),
        ("Recall", curves.recall, metrics.recall),
    )
    names = [shorten(row.name) for row in metrics.per_class]
    for axes, (title, values, best) in zip(panels, shown, strict=True):
        style(axes, title, "Confidence")
        unit_square(axes)
        mean = class_mean(values)
        if title == "Precision":  # which says nothing where nothing is found
            values, mean = _while_found(values, mean, curves.recall)
        _class_lines(axes, curves.confidences, values, names, "all classes", mean)
        if not math.isnan(best):
            axes.axvline(conf, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
            axes.plot([conf], [best], "o", color=INK, markersize=5, zorder=5)
            _note(axes, conf, best, f"{best:.3f} at {conf:.3f}")
    legend(panels[-1], **_OUTSIDE)
    save_figure(figure, path)


def _while_found(
    values: np.ndarray, mean: np.ndarray, recall: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lines [C,N] that end where their class is found no more, and the average [N] that ends where
    fewer than half of the classes are left.  A class that is never found keeps its line at 0."""
    found = np.greater(recall, 0)  # [C,N]; falls with the confidence
    ever = found.any(1)
    values = np.where(found | ~ever[:, None], values, np.nan)
    return values, np.where(2 * found.sum(0) >= ever.sum(), mean, np.nan)


def plot_confusion_matrix(metrics: Metrics, class_names: Sequence[str], path: Path) -> None:
    """Shares of each true class by predicted class; numbers where there are at most 20 classes."""
    counts = metrics.confusion
    totals = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    names = [shorten(name, 18) for name in class_names] + ["background"]
    size = len(names)
    side = min(13.0, max(4.6, 2.4 + 0.42 * size))
    figure = new_figure(side + 1.0, side, square=True)
    axes = figure.add_subplot()
    # the square root shows a share of 0.05 too
    image = axes.imshow(shares, cmap=HEAT, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    style(axes, f"Confusion at confidence {metrics.best_conf:.3f}", "Predicted", "True")
    axes.grid(False)
    font = 8.5 if size <= 30 else max(4.5, 8.5 * 30 / size)
    crowded = size * max(len(name) for name in names) > 42
    axes.set_xticks(range(size), names, rotation=90 if crowded else 0, fontsize=font)
    axes.set_yticks(range(size), names, fontsize=font)
    for edge in np.arange(0.5, size - 1):
        axes.axhline(edge, color=LINE, linewidth=0.5)
        axes.axvline(edge, color=LINE, linewidth=0.5)
    if size <= NAMED_CLASSES + 1:
        _write_numbers(axes, counts, shares)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, ticks=(0, 0.05, 0.2, 0.5, 1))
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=SOFT, labelsize=8, length=0)
    bar.set_label("Share of the true class", fontsize=9, color=SOFT)
    save_figure(figure, path)


def _write_numbers(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    """The share, and where there is room the count, in each cell that has any."""
    roomy = len(counts) <= 8
    for row, column in np.argwhere(counts).tolist():
        share = shares[row, column]
        text = f"{share:.2f}\n{counts[row, column]}" if roomy else f"{share:.2f}"
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=8.5 if roomy else 6.5,
            color="white" if share > 0.25 else INK,
        )


def plot_results(results: Path | Sequence[Mapping[str, Any]], path: Path) -> None:
    """The course of a training: loss parts, learning rate, AP, precision and recall by epoch.

    results: rows with ``epoch``, ``train/*_loss`` (and ``val/*_loss``), ``lr*`` and ``metrics/*``,
    or the CSV file that holds them; columns that are missing are left out, others not looked at.
    """
    rows = _read_csv(results) if isinstance(results, Path) else list(results)
    panels = [(t, c) for t, c in _result_panels(list(rows[0]) if rows else []) if c]
    columns = min(3, max(1, len(panels)))
    lines = max(1, math.ceil(len(panels) / columns))
    figure = new_figure(4.3 * columns, 3.1 * lines)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_visible(bool(not panels))
    if not panels:
        style(grid[0], "Training", "Epoch")
        say_nothing_to_show(grid[0], "no epoch was finished")
    for axes, (title, names) in zip(grid, panels, strict=False):
        style(axes, title, "Epoch")
        _epoch_lines(axes, rows, names)
    save_figure(figure, path)


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _result_panels(columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Title and columns (column -> name in the legend) of each panel."""
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
    """A line a column; the best AP is marked."""
    epochs = np.array([_number(row.get("epoch")) for row in rows])
    colors = (ACCENT, "#f48c06", "#2a9d5a", "#de4fa0")
    for i, (column, name) in enumerate(names.items()):
        values = np.array([_number(row.get(column)) for row in rows])
        known = np.isfinite(values)
        axes.plot(
            epochs[known],
            values[known],
            marker="o" if known.sum() < 25 else "",
            markersize=3,
            linewidth=1.6,
            color=INK if name == "AP" else colors[i % len(colors)],
            label=name if len(names) > 1 else None,
        )
        if name == "AP" and known.any():
            best = int(np.nanargmax(values))
            axes.plot([epochs[best]], [values[best]], "o", color=INK, markersize=6)
            text = f"{values[best]:.3f} in epoch {epochs[best]:.0f}"
            _note(axes, epochs[best], values[best], text, (epochs.min(), epochs.max()))
    axes.set_ylim(0, 1.08 * max(axes.dataLim.ymax, 1e-9))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend(axes, loc="best")


def _number(value: Any) -> float:
    """A cell as a number; nan for an empty or missing one."""
    return math.nan if value is None or value == "" else float(value)


_OUTSIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02)}


def _class_lines(
    axes: Axes,
    x: np.ndarray,
    lines: np.ndarray,
    names: Sequence[str],
    whole: str,
    mean: np.ndarray | None = None,
) -> None:
    """A line a class and their average; lines: [C,N], nan where a class has none."""
    present = [i for i in range(len(lines)) if not np.isnan(lines[i]).all()]
    if not present:
        say_nothing_to_show(axes, "no true boxes to measure with")
        return
    few = len(present) <= NAMED_CLASSES
    for i in present:
        label = names[i] if few else None
        width, alpha = (1.4, 0.9) if few else (0.8, 0.35)
        axes.plot(x, lines[i], color=plot_color(i), label=label, linewidth=width, alpha=alpha)
    if len(present) > 1:
        mean = class_mean(lines) if mean is None else mean
        axes.plot(x, mean, color=INK, linewidth=2.6, label=whole)


def _note(
    axes: Axes, x: float, y: float, text: str, span: tuple[float, float] = (0.0, 1.0)
) -> None:
    """A word beside a point, on the side of ``span`` that has room."""
    left = x > sum(span) / 2
    shift = (-8 if left else 8, 12 if y < 0.93 * axes.get_ylim()[1] else -14)
    box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    axes.annotate(text, (x, y), shift, textcoords="offset points", fontsize=8.5, color=INK,
                  ha="right" if left else "left", va="center", bbox=box, zorder=6)  # fmt: skip
