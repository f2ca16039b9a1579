"""Plots of images and boxes: training batches, ground truth beside detections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ...datasets.images.image import ImageError, read_image
from ...datasets.nouns import Batch
from ...files.text import one_line
from .checked import Checked, check, worst_images, xywh_to_xyxy
from .draw import BACKGROUND, captioned, draw_boxes, draw_detections, fit, tile_images
from .evaluator import MAX_PICTURES, Evaluation
from .figure import save_picture
from .tables import image_table

BATCH_IMAGES = 16
CELL = 400
"""Longer side of an image on a sheet, in pixels."""
GAP = 4
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
            sheet.append(captioned(drawn, batch.paths[i].name))
        if len(sheet) == BATCH_IMAGES:
            break
    save_picture(tile_images(sheet, 4, CELL), path)


def plot_detections(evaluation: Evaluation, class_names: Sequence[str], path: Path) -> None:
    """The first measured images: ground truth on the left, detections above the best confidence on
    the right; misses and false alarms are red."""
    pairs = []
    for picture in evaluation.pictures:
        truth = image_table(0, picture.boxes, picture.labels)
        detections = picture.detections
        found = image_table(0, detections.boxes, detections.labels, detections.scores)
        checked = check(found, truth, evaluation)
        pairs.append(_pair(picture.image, picture.name, checked, class_names))
    save_picture(tile_images(pairs, 2, 2 * CELL + GAP, gap=3 * GAP), path)


def plot_worst(evaluation: Evaluation, class_names: Sequence[str], path: Path) -> None:
    """The measured images with the most misses and false alarms, drawn by ``plot_pairs``."""
    plot_pairs(evaluation, worst_images(evaluation)[:MAX_PICTURES], class_names, path)


def plot_pairs(
    evaluation: Evaluation,
    images: Sequence[tuple[int, Checked]],
    class_names: Sequence[str],
    path: Path,
) -> None:
    """Measured images by their place, drawn as by ``plot_detections``.  Nothing is written where
    there is none, or their files are gone."""
    pairs = []
    for place, checked in images:
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
    sides = [captioned(side, text) for side, text in zip(sides, (left, right), strict=True)]
    gap = np.full((sides[0].shape[0], GAP, 3), BACKGROUND, np.uint8)
    return np.concatenate((sides[0], gap, sides[1]), 1)


def _small(image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image at the size of a cell, so that tags can be read, and its boxes [N,4] xyxy."""
    small = fit(image, CELL)
    share = np.array([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0]] * 2)
    return small, boxes.reshape(-1, 4) * share
