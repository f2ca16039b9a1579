"""Plots of images and boxes: training batches, ground truth beside detections, the data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...datasets.formats.record import Record
from ...datasets.nouns import Batch
from ...files.counted import counted
from .draw import BACKGROUND, FONT, draw_detections, fit, tile_images
from .evaluator import Evaluation, Picture
from .figure import (
    HEAT,
    INK,
    SOFT,
    new_figure,
    plot_color,
    save_figure,
    save_picture,
    say_nothing_to_show,
    style,
)
from .fonts import axis_names

BATCH_IMAGES = 16
CELL = 400
"""Longer side of an image on a sheet, in pixels."""
GAP = 4
CAPTION = 22
FEW_CLASSES = 12


def plot_batch(batch: Batch, class_names: Sequence[str], path: Path) -> None:
    """The first images of a training batch with their boxes, as the model sees them."""
    sheet = []
    for i in range(min(BATCH_IMAGES, len(batch))):
        image = batch.images[i].permute(1, 2, 0).cpu().numpy()
        mine = (batch.batch_index == i).cpu().numpy()
        boxes, labels = batch.boxes.cpu().numpy()[mine], batch.labels.cpu().numpy()[mine]
        sheet.append(_drawn(image, boxes, labels, None, class_names))
    save_picture(tile_images(sheet, 4, CELL), path)


def plot_detections(evaluation: Evaluation, class_names: Sequence[str], path: Path) -> None:
    """Measured images twice: ground truth on the left, detections above the best confidence on the
    right."""
    conf = evaluation.metrics.best_conf
    pairs = [_pair(picture, class_names, conf) for picture in evaluation.pictures]
    save_picture(tile_images(pairs, 2, 2 * CELL + GAP, gap=3 * GAP), path)


def _pair(picture: Picture, class_names: Sequence[str], conf: float) -> np.ndarray:
    """Ground truth and detections of one image side by side, each under its caption."""
    found = picture.detections.above(conf)
    boxes, labels, scores = (x.numpy() for x in (found.boxes, found.labels, found.scores))
    truth = _drawn(picture.image, picture.boxes, picture.labels, None, class_names)
    detected = _drawn(picture.image, boxes, labels, scores, class_names)
    gap = np.full((truth.shape[0] + CAPTION, GAP, 3), BACKGROUND, np.uint8)
    left = _captioned(truth, f"true: {len(picture.boxes)}")
    right = _captioned(detected, f"found: {len(boxes)} with confidence {conf:.3f} or more")
    return np.concatenate((left, gap, right), 1)


def _captioned(image: np.ndarray, text: str) -> np.ndarray:
    strip = np.full((CAPTION, image.shape[1], 3), BACKGROUND, np.uint8)
    cv2.putText(strip, text, (2, CAPTION - 7), FONT, 0.42, (35, 38, 47), 1, cv2.LINE_AA)
    return np.concatenate((strip, image))


def _drawn(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None,
    class_names: Sequence[str],
) -> np.ndarray:
    """The image at the size of a cell with its boxes, so that tags can be read."""
    small = fit(image, CELL)
    share = np.array([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]] * 2)
    return draw_detections(small, boxes.reshape(-1, 4) * share, labels, scores, class_names)


def plot_labels(records: Sequence[Record], class_names: Sequence[str], path: Path) -> None:
    """A data set in one figure: boxes per class, where their centers are, how large they are."""
    boxes = np.concatenate([np.empty((0, 4)), *(_relative(record) for record in records)])
    labels = np.concatenate([np.empty(0, np.int64), *(record.labels for record in records)])
    panels, figure = _label_panels(len(class_names))
    title = f"{counted(len(labels), 'box')} in {counted(len(records), 'image')}"
    _class_bars(panels["bars"], labels, class_names, title)
    centers, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    _heat_map(panels["centers"], centers, "Where boxes are", "x / image width", "y / image height")
    panels["centers"].invert_yaxis()  # as in the picture
    _heat_map(panels["sizes"], sides, "How large they are", "width / image", "height / image")
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


def _relative(record: Record) -> np.ndarray:
    """Boxes [N,4] xyxy relative to the sides of the image."""
    height, width = record.size
    return record.boxes.reshape(-1, 4) / np.array([width, height, width, height])


def _class_bars(axes: Axes, labels: np.ndarray, names: Sequence[str], title: str) -> None:
    """One bar per class in the order of class ids, with its count."""
    counts = np.bincount(labels, minlength=len(names))
    places = np.arange(len(counts))
    font = 8.5 if len(counts) <= 40 else 7
    style(axes, title)
    axes.barh(places, counts, 0.72, color=[plot_color(i) for i in range(len(counts))])
    axes.set_yticks(places, axis_names(names), fontsize=font, color=INK)
    axes.set_ylim(max(len(counts), 5) - 0.4, -0.6)
    axes.set_xlim(0, max(counts.max(initial=0), 1) * 1.14)
    axes.grid(axis="y", visible=False)
    for place, count in zip(places, counts, strict=True):
        axes.annotate(str(count), (count, place), (3, 0), textcoords="offset points",
                      va="center", fontsize=font - 0.5, color=SOFT)  # fmt: skip


def _heat_map(axes: Axes, points: np.ndarray, title: str, x: str, y: str) -> None:
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
