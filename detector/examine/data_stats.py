"""Numbers and one picture of a data set: classes, sizes of boxes, where they are, samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter

from ...datasets.formats.record import Record
from ...datasets.images.image import ImageError, read_image
from ...datasets.scan.scan import Scan
from ...files.counted import counted
from ..evaluate.draw import draw_detections, fit, tile_images
from ..evaluate.figure import SOFT, new_figure, save_figure, style
from ..evaluate.fonts import axis_names
from ..evaluate.label_plots import class_bars, heat_map, relative_boxes
from ..evaluate.pictures import CELL

SMALL, MEDIUM = 32, 96
"""Sides in pixels below which COCO calls an object small or medium."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SAMPLES = 9
MOST_CLASSES = 40
"""Classes in the picture; the table has all."""


def data_stats(
    scans: Sequence[Scan], class_names: Sequence[str], imgsz: int
) -> dict[str, Any]:
    """Counts per split and class, and the sizes of boxes at a training size.

    Sides are square roots of box areas, in pixels of an image whose longer side is ``imgsz``.
    """
    return {
        "imgsz": imgsz,
        "splits": {
            scan.split: _numbers(scan.records, class_names, imgsz, scan.num_images)
            for scan in scans
        },
    }


def _numbers(
    records: Sequence[Record], names: Sequence[str], imgsz: int, looked_at: int
) -> dict[str, Any]:
    sides, labels = box_sides(records, imgsz), _labels(records)
    per_image = np.array([len(record.labels) for record in records])
    counts = np.bincount(labels, minlength=len(names))
    with_class = [np.unique(record.labels) for record in records]
    images = np.bincount(np.concatenate([np.empty(0, np.int64), *with_class]), minlength=len(names))
    return {
        "images": looked_at,
        "usable": len(records),
        "boxes": len(labels),
        "backgrounds": int((per_image == 0).sum()),
        "boxes_per_image": {"mean": float(per_image.mean()) if len(records) else 0.0,
                            "most": int(per_image.max(initial=0))},
        "per_class": {
            name: {"boxes": int(counts[i]), "images": int(images[i])}
            for i, name in enumerate(names)
        },
        "side": {f"{q:g}": float(np.quantile(sides, q)) for q in QUANTILES if len(sides)},
        "small": int((sides < SMALL).sum()),
        "medium": int(((sides >= SMALL) & (sides < MEDIUM)).sum()),
        "large": int((sides >= MEDIUM).sum()),
    }  # fmt: skip


def box_sides(records: Sequence[Record], imgsz: int) -> np.ndarray:
    """Square roots of the areas of all boxes [N], in pixels at a training size."""
    sides = [np.empty(0)]
    for record in records:
        width, height = (record.boxes[:, 2:] - record.boxes[:, :2]).reshape(-1, 2).T
        sides.append(np.sqrt(width * height) * (imgsz / max(record.size)))
    return np.concatenate(sides)


def _labels(records: Sequence[Record]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.int64), *(record.labels for record in records)])


def plot_stats(
    records: Sequence[Record], class_names: Sequence[str], imgsz: int, path: Path
) -> None:
    """All images of a data set in one picture."""
    figure = new_figure(15, 8.2)
    panels = figure.subplot_mosaic(
        [["bars", "centers", "samples"], ["sides", "many", "samples"]],
        width_ratios=(1.25, 1, 2.1),
    )
    boxes = np.concatenate([np.empty((0, 4)), *(relative_boxes(record) for record in records)])
    title = f"{counted(len(boxes), 'box')} in {counted(len(records), 'image')}"
    labels, names = _labels(records), axis_names(class_names)
    present = {i: names[i] for i in np.unique(labels).tolist()[:MOST_CLASSES]}
    class_bars(panels["bars"], labels, present, title)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    heat_map(panels["centers"], centers, "Where boxes are", "x / image width", "y / image height")
    panels["centers"].invert_yaxis()  # as in the picture
    _plot_sides(panels["sides"], box_sides(records, imgsz), imgsz)
    _plot_many(panels["many"], np.array([len(record.labels) for record in records]))
    panels["samples"].imshow(_samples(records, class_names))
    panels["samples"].axis("off")
    save_figure(figure, path, class_names)


def _plot_sides(axes: Axes, sides: np.ndarray, imgsz: int) -> None:
    style(axes, f"Sides of boxes at imgsz={imgsz}", "pixels (square root of the area)", "boxes")
    top = max(float(sides.max(initial=0)), 2.0 * MEDIUM)
    axes.hist(sides, np.geomspace(2, top, 40).tolist(), color="#1d84db")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    for side, name in ((SMALL, "small"), (MEDIUM, "medium")):
        axes.axvline(side, color=SOFT, linewidth=1, linestyle=":")
        axes.annotate(f"{name} < {side}", (side, 1), (-4, -3), xycoords=("data", "axes fraction"),
                      textcoords="offset points", ha="right", va="top", rotation=90, fontsize=8,
                      color=SOFT)  # fmt: skip


def _plot_many(axes: Axes, counts: np.ndarray) -> None:
    style(axes, "Boxes per image", "boxes", "images")
    most = int(counts.max(initial=0))
    axes.hist(counts, min(most + 1, 40), range=(-0.5, most + 0.5), color="#2a9d5a")


def _samples(records: Sequence[Record], class_names: Sequence[str]) -> np.ndarray:
    """Labeled images at even distances of the list, those with boxes first."""
    having = [record for record in records if len(record.labels)] or list(records)
    numbers = sorted({number * len(having) // SAMPLES for number in range(SAMPLES)})
    pictures = [labeled(having[number], class_names) for number in numbers]
    tiles = [picture for picture in pictures if picture is not None]
    return tile_images(tiles, 3, CELL)


def labeled(record: Record, class_names: Sequence[str], side: int = CELL) -> np.ndarray | None:
    """The image of a record [H,W,3] with its boxes, its longer side at ``side`` pixels; None if it
    cannot be decoded."""
    try:
        image = read_image(record.path)
    except ImageError:
        return None
    small = fit(image, side)
    height, width = record.size
    share = np.array([small.shape[1] / width, small.shape[0] / height] * 2)
    return draw_detections(small, record.boxes * share, record.labels, None, class_names)
