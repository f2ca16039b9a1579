"""The labels of a data set in figures: boxes per class, where they are, how large they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...datasets.formats.record import Record
from ...files.counted import counted
from .figure import HEAT, INK, SOFT, new_figure, plot_color, save_figure, say_nothing_to_show, style
from .fonts import axis_names

FEW_CLASSES = 12


def plot_labels(records: Sequence[Record], class_names: Sequence[str], path: Path) -> None:
    """A data set in one figure: boxes per class, where their centers are, how large they are."""
    boxes = np.concatenate([np.empty((0, 4)), *(relative_boxes(record) for record in records)])
    labels = np.concatenate([np.empty(0, np.int64), *(record.labels for record in records)])
    present = np.unique(labels).tolist()
    panels, figure = _label_panels(len(present))
    shown = axis_names(class_names)
    title = f"{counted(len(labels), 'box')} in {counted(len(records), 'image')}"
    if len(present) < len(class_names):
        title += f", {len(present)} of {counted(len(class_names), 'class')}"
    class_bars(panels["bars"], labels, {i: shown[i] for i in present}, title)
    centers, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    heat_map(panels["centers"], centers, "Where boxes are", "x / image width", "y / image height")
    panels["centers"].invert_yaxis()  # as in the picture
    heat_map(panels["sizes"], sides, "How large they are", "width / image", "height / image")
    save_figure(figure, path, class_names)


def _label_panels(num_classes: int) -> tuple[dict[str, Axes], Figure]:
    """Axes ``bars``, ``centers`` and ``sizes``: in a row, or for many classes in two columns."""
    if num_classes <= FEW_CLASSES:
        figure = new_figure(12.5, 3.7)
        axes = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
        return dict(zip(("bars", "centers", "sizes"), axes, strict=True)), figure
    square, height = 2.9, min(15.0, max(5.8, 1.2 + 0.17 * num_classes))
    figure = new_figure(9.5, height)
    panels = figure.subplot_mosaic(
        [["bars", "centers"], ["bars", "sizes"], ["bars", "."]],
        width_ratios=(1.5, 1),
        height_ratios=(square, square, max(height - 2 * square, 1e-3)),
    )
    return panels, figure


def relative_boxes(record: Record) -> np.ndarray:
    """Boxes [N,4] xyxy relative to the sides of the image."""
    height, width = record.size
    return record.boxes.reshape(-1, 4) / np.array([width, height, width, height])


def class_bars(axes: Axes, labels: np.ndarray, names: Mapping[int, str], title: str) -> None:
    """One bar per class of ``names`` (id -> name) in the order of ids, with its count."""
    counts = np.bincount(labels, minlength=1)[list(names)]
    places = np.arange(len(counts))
    font = 8.5 if len(counts) <= 40 else 7
    style(axes, title)
    axes.barh(places, counts, 0.72, color=[plot_color(i) for i in names])
    axes.set_yticks(places, list(names.values()), fontsize=font, color=INK)
    axes.set_ylim(max(len(counts), 5) - 0.4, -0.6)
    axes.set_xlim(0, max(counts.max(initial=0), 1) * 1.14)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y", visible=False)
    for place, number in zip(places, counts, strict=True):
        axes.annotate(str(number), (number, place), (3, 0), textcoords="offset points",
                      va="center", fontsize=font - 0.5, color=SOFT)  # fmt: skip


def heat_map(axes: Axes, points: np.ndarray, title: str, x: str, y: str) -> None:
    """How many of ``points`` [N,2], each in 0..1, fall into each of 40 x 40 cells."""
    style(axes, title, x, y)
    axes.grid(False)
    axes.set_aspect("equal")
    cells, _, _ = np.histogram2d(points[:, 0], points[:, 1], 40, ((0, 1), (0, 1)))
    axes.imshow(np.sqrt(cells.T), cmap=HEAT, origin="lower", extent=(0, 1, 0, 1))
    axes.set_xticks([0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])
    for spine in axes.spines.values():
        spine.set_visible(True)
    if len(points) == 0:
        say_nothing_to_show(axes, "no boxes")
