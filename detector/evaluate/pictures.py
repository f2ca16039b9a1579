"""Plots of images and boxes: training batches, ground truth beside detections, the data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...datasets.formats.record import Record
from ...datasets.images.image import ImageError, read_image
from ...datasets.nouns import Batch
from ...files.counted import counted
from ...files.text import one_line
from .checked import Checked, check, worst_images, xywh_to_xyxy
from .draw import BACKGROUND, FONT, draw_boxes, draw_detections, fit, tile_images
from .evaluator import MAX_PICTURES, Evaluation
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
from .tables import image_table

BATCH_IMAGES = 16
CELL = 400
"""Longer side of an image on a sheet, in pixels."""
GAP = 4
CAPTION = 22
FEW_CLASSES = 12
RIGHT, WRONG = (42, 157, 90), (230, 30, 45)
"""RGB of boxes that match, and of misses and false alarms."""


def plot_batch(batches: Iterable[Batch], class_names: Sequence[str], path: Path) -> None:
    """The first images of training batches with their boxes and file names, as the model sees
    them."""
    sheet: list[np.ndarray] = []
    for batch in batches:
        for i in range(min(BATCH_IMAGES - len(sheet), len(batch))):
            image = batch.images[i].permute(1, 2, 0).cpu().numpy()
            mine = (batch.batch_index == i).cpu().numpy()
            boxes, labels = batch.boxes.cpu().numpy()[mine], batch.labels.cpu().numpy()[mine]
            drawn = draw_detections(*_small(image, boxes), labels, None, class_names)
            sheet.append(_captioned(drawn, batch.paths[i].name))
        if len(sheet) == BATCH_IMAGES:
            break
    save_picture(tile_images(sheet, 4, CELL), path)


def plot_detections(evaluation: Evaluation, class_names: Sequence[str], path: Path) -> None:
    """The first measured images: ground truth on the left, detections above the best confidence on
    the right; misses and false alarms are red."""
    pairs = []
    for place, picture in enumerate(evaluation.pictures):
        name = evaluation.paths[place].name if evaluation.paths else ""
        truth = image_table(0, picture.boxes, picture.labels)
        detections = picture.detections
        found = image_table(0, detections.boxes, detections.labels, detections.scores)
        pairs.append(_pair(picture.image, name, check(found, truth, evaluation), class_names))
    save_picture(tile_images(pairs, 2, 2 * CELL + GAP, gap=3 * GAP), path)


def plot_worst(evaluation: Evaluation, class_names: Sequence[str], path: Path) -> None:
    """The measured images with the most misses and false alarms, drawn as by ``plot_detections``.
    Nothing is written where no image has one, or their files are gone."""
    pairs = []
    for place, checked in worst_images(evaluation)[:MAX_PICTURES]:
        file = evaluation.paths[place]
        try:
            image = read_image(file)
        except ImageError:
            continue
        pairs.append(_pair(image, file.name, checked, class_names))
    if pairs:
        save_picture(tile_images(pairs, 2, 2 * CELL + GAP, gap=3 * GAP), path)


def _pair(image: np.ndarray, name: str, checked: Checked, class_names: Sequence[str]) -> np.ndarray:
    """Ground truth and detections of one image side by side, each under its caption; misses and
    false alarms in red."""
    truth, found = checked.truth, checked.found
    sides = []
    for table, wrong, scored in (
        (truth, checked.missed, False),
        (found, checked.false, True),
    ):
        small, boxes = _small(image, xywh_to_xyxy(table.boxes))
        texts = [
            one_line(class_names[label]) + (f" {score:.2f}" if scored else "")
            for label, score in zip(table.labels, table.scores, strict=True)
        ]
        colors = [WRONG if bad else RIGHT for bad in wrong]
        sides.append(draw_boxes(small, boxes, texts, colors))
    left = f"{name}  true: {len(truth)}, missed (red): {checked.missed.sum()}"
    right = f"found at {checked.conf:.2f}: {len(found)}, false (red): {checked.false.sum()}"
    sides = [_captioned(side, text) for side, text in zip(sides, (left, right), strict=True)]
    gap = np.full((sides[0].shape[0], GAP, 3), BACKGROUND, np.uint8)
    return np.concatenate((sides[0], gap, sides[1]), 1)


def _captioned(image: np.ndarray, text: str) -> np.ndarray:
    """The image under a line of text, of which the beginning is left out where it is too long."""
    strip = np.full((CAPTION, image.shape[1], 3), BACKGROUND, np.uint8)
    text = one_line(text)
    while cv2.getTextSize(text, FONT, 0.42, 1)[0][0] > image.shape[1] - 4 and len(text) > 8:
        text = "..." + text[4:]
    cv2.putText(strip, text, (2, CAPTION - 7), FONT, 0.42, (35, 38, 47), 1, cv2.LINE_AA)
    return np.concatenate((strip, image))


def _small(image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image at the size of a cell, so that tags can be read, and its boxes [N,4] xyxy."""
    small = fit(image, CELL)
    share = np.array([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]] * 2)
    return small, boxes.reshape(-1, 4) * share


def plot_labels(records: Sequence[Record], class_names: Sequence[str], path: Path) -> None:
    """A data set in one figure: boxes per class, where their centers are, how large they are."""
    boxes = np.concatenate([np.empty((0, 4)), *(_relative(record) for record in records)])
    labels = np.concatenate([np.empty(0, np.int64), *(record.labels for record in records)])
    present = np.unique(labels).tolist()
    panels, figure = _label_panels(len(present))
    shown = axis_names(class_names)
    title = f"{counted(len(labels), 'box')} in {counted(len(records), 'image')}"
    if len(present) < len(class_names):
        title += f", {len(present)} of {counted(len(class_names), 'class')}"
    _class_bars(panels["bars"], labels, {i: shown[i] for i in present}, title)
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


def _class_bars(axes: Axes, labels: np.ndarray, names: Mapping[int, str], title: str) -> None:
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
