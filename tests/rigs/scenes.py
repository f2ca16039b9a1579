"""Small images and records for the tests of the data path."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from yolodet.datasets.augment.draw_cpu import paint
from yolodet.datasets.augment.mosaic import Placement, move_boxes, to_pixels
from yolodet.datasets.batches.dataset import Augment, DetectionDataset
from yolodet.datasets.formats.record import Record

QUIET = Augment(
    hsv_h=0.0,
    hsv_s=0.0,
    hsv_v=0.0,
    degrees=0.0,
    translate=0.0,
    scale=0.0,
    shear=0.0,
    flipud=0.0,
    fliplr=0.0,
    mosaic=0.0,
    mixup=0.0,
    close_epoch=10**6,
)
"""Augmentation that changes nothing; take parts of it with dataclasses.replace."""
LIVELY = Augment(0.015, 0.7, 0.4, 8.0, 0.1, 0.5, 3.0, 0.2, 0.5, 0.8, 0.3, 10**6)
"""Everything on."""


def smooth_image(height: int, width: int, seed: int) -> np.ndarray:
    """[H,W,3] uint8 that changes by a few levels a pixel at most, so that sampling is exact."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (6, 6, 3)).astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return image.clip(0, 255).astype(np.uint8)


def compose(
    placements: Sequence[Placement],
    images: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    output: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw placements into ``output`` [H,W,3] uint8 as a data set does; the others are of each
    placement's source. Returns the boxes and labels that are seen in the output."""
    size = (output.shape[0], output.shape[1])
    tiles = [to_pixels(placement, size) for placement in placements]
    paint(zip(tiles, images, strict=True), output)
    return move_boxes(tiles, boxes, labels, size)


def write_record(path: Path, image: np.ndarray, boxes: Sequence[Sequence[float]] = ()) -> Record:
    """The image as a file (exact for .png) and its record; labels count up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Record(path, image.shape[:2], array, np.arange(len(array), dtype=np.int64))


def make_records(folder: Path, count: int) -> list[Record]:
    """Images of various sizes with none to three boxes each."""
    records = []
    for number in range(count):
        rng = np.random.default_rng(number)
        height, width = rng.integers(40, 120, 2).tolist()
        corners = rng.uniform(0, 0.5, (number % 4, 2))
        boxes = np.concatenate((corners, corners + 0.4), 1) * (width, height, width, height)
        image = smooth_image(height, width, number)
        records.append(write_record(folder / f"{number}.png", image, boxes))
    return records


def record_of(dataset: DetectionDataset, index: int) -> Record:
    """One of the records that a data set keeps as flat arrays."""
    packed = dataset._packed
    own = packed.of(index)
    return Record(packed.path(index), packed.size(index), packed.boxes[own], packed.labels[own])
