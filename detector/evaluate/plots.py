"""Plots of an evaluation: precision-recall curve, confidence curves, confusion matrix.

Files are written atomically.  Up to 20 classes have a color and a name each; more are thin lines
behind their average.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm

from .course import plot_results
from .curves import class_mean
from .figure import (
    HEAT,
    INK,
    LINE,
    SOFT,
    legend,
    new_figure,
    plot_color,
    save_figure,
    say_nothing_to_show,
    style,
    unit_square,
)
from .fonts import axis_names
from .label_plots import plot_labels
from .metrics import Metrics
from .pictures import plot_batch, plot_detections

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
    names = [row.name for row in metrics.per_class]
    labels = [
        f"{name}  {row.ap_50:.3f}"
        for name, row in zip(axis_names(names), metrics.per_class, strict=True)
    ]
    whole = f"all classes  {metrics.map_50:.3f}"
    _class_lines(axes, metrics.curves.recalls, metrics.curves.pr, labels, whole)
    legend(axes, title="AP50", **_OUTSIDE)
    save_figure(figure, path, names)


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
    names = [row.name for row in metrics.per_class]
    for axes, (title, values, best) in zip(panels, shown, strict=True):
        known = "" if math.isnan(best) else f", {best:.3f} at confidence {conf:.3f}"
        style(axes, title + known, "Confidence")
        unit_square(axes)
        mean = class_mean(values)
        if title == "Precision":  # meaningless above the last detection
            values, mean = _while_found(values, mean, curves.recall)
        _class_lines(axes, curves.confidences, values, axis_names(names), "all classes", mean)
        if not math.isnan(best):
            axes.axvline(conf, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
            axes.plot([conf], [best], "o", color=INK, markersize=5, zorder=5)
    legend(panels[-1], **_OUTSIDE)
    save_figure(figure, path, names)


def _while_found(
    values: np.ndarray, mean: np.ndarray, recall: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lines [C,N] cut at the last detection of their class, and the average [N] cut where fewer
    than half of the classes are left.  A class that is never found keeps its line at 0."""
    found = np.greater(recall, 0)  # [C,N]; falls with the confidence
    ever = found.any(1)
    values = np.where(found | ~ever[:, None], values, np.nan)
    return values, np.where(2 * found.sum(0) >= ever.sum(), mean, np.nan)


def plot_confusion_matrix(metrics: Metrics, class_names: Sequence[str], path: Path) -> None:
    """Share of each true class by predicted class; with numbers for at most 20 classes.

    Only classes that occur are shown.  The last row is different: false alarms as a share of all
    detections of their class.
    """
    shown, shares = confusion_shares(metrics.confusion)
    counts = metrics.confusion[np.ix_(shown, shown)]
    names = [*axis_names(class_names, 18), "background"]
    names = [names[i] for i in shown]
    size = len(names)
    side = min(18.0, max(4.6, 2.4 + (0.42 if size <= 30 else 0.2) * size))
    figure = new_figure(side + 1.0, side, square=True)
    axes = figure.add_subplot()
    # the square root makes a share of 0.05 visible
    image = axes.imshow(shares, cmap=HEAT, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    style(axes, f"Confusion at confidence {metrics.best_conf:.3f}", "Predicted", "True")
    axes.grid(False)
    font = 8.5 if size <= 30 else 7.5
    crowded = size * max(len(name) for name in names) > 42
    axes.set_xticks(range(size), names, rotation=90 if crowded else 0, fontsize=font)
    axes.set_yticks(range(size), names, fontsize=font)
    for edge in np.arange(0.5, size - 1):
        axes.axhline(edge, color=LINE, linewidth=0.5)
        axes.axvline(edge, color=LINE, linewidth=0.5)
    axes.axhline(size - 1.5, color=SOFT, linewidth=1.2)
    if size <= NAMED_CLASSES + 1:
        _write_numbers(axes, counts, shares)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, ticks=(0, 0.05, 0.2, 0.5, 1))
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=SOFT, labelsize=8, length=0)
    bar.set_label("Share of the true class; last row: of the detections", fontsize=9, color=SOFT)
    save_figure(figure, path, class_names)


def confusion_shares(confusion: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The rows [K] of a confusion matrix that are shown, the background last, and its shares [K,K].

    A row is divided by the boxes of its true class.  False alarms have no true class: they are
    divided by the detections of their class.
    """
    last = len(confusion) - 1
    counts = confusion.astype(float)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shares[last] = counts[last] / np.maximum(counts.sum(0), 1)
    occur = (counts.sum(0) + counts.sum(1)) > 0
    shown = [i for i in range(last) if occur[i]] or list(range(last))
    shown.append(last)
    return shown, shares[np.ix_(shown, shown)]


def _write_numbers(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    """The share, and the count if there is room, in each cell that is not empty."""
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


_OUTSIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02)}


def _class_lines(
    axes: Axes,
    x: np.ndarray,
    lines: np.ndarray,
    names: Sequence[str],
    whole: str,
    mean: np.ndarray | None = None,
) -> None:
    """One line per class and their average; lines: [C,N], nan for a class that has none."""
    present = [i for i in range(len(lines)) if not np.isnan(lines[i]).all()]
    if not present:
        say_nothing_to_show(axes, "no ground truth to measure with")
        return
    few = len(present) <= NAMED_CLASSES
    for i in present:
        label = names[i] if few else None
        width, alpha = (1.4, 0.9) if few else (0.8, 0.35)
        axes.plot(x, lines[i], color=plot_color(i), label=label, linewidth=width, alpha=alpha)
    if len(present) > 1:
        mean = class_mean(lines) if mean is None else mean
        axes.plot(x, mean, color=INK, linewidth=2.6, label=whole)
