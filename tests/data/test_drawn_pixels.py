"""Training images as they have always been drawn on the CPU, to the bit.

Runs under way and results in docs/log.md rest on these pixels.  The hashes of boxes, and of pixels
without color, were recorded before planning and drawing were taken apart, the others when color
became a rotation (docs/log.md, 2026-11-28); they are of plain noise, which shows every rounding.
Other versions of OpenCV round otherwise, so pixels are compared only where OpenCV's own functions
give what they gave then; boxes are compared everywhere.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scenes import LIVELY, QUIET, write_record
from yolodet.datasets.augment.transforms import hue_rotation
from yolodet.datasets.batches.dataset import Augment, DetectionDataset
from yolodet.datasets.formats.record import Record

SIDE = 64
KINDS: dict[str, Augment] = {
    "everything": replace(LIVELY, mosaic=1.0, mixup=0.5),
    "defaults": replace(LIVELY, degrees=0.0, shear=0.0, flipud=0.0, mosaic=1.0, mixup=0.0),
    "far zoom": replace(LIVELY, degrees=0.0, shear=0.0, scale=0.95, mosaic=0.5),
    "far zoom, turned": replace(LIVELY, scale=0.95, mosaic=0.5),
    "single images": replace(LIVELY, mosaic=0.0, mixup=0.0),
    "flips": replace(QUIET, flipud=0.5, fliplr=0.5),
}
OPENCV = "5d7f6cf469178892"
RECORDED = {
    "everything": ("e7f9c71eea0b7d00", "2c832dc56506bc54"),
    "defaults": ("755d8185eb8c73df", "0ca8ec252fcd6c7e"),
    "far zoom": ("cf2dbe0cbd7b7e5b", "9cc642e8425d711b"),
    "far zoom, turned": ("38fe5ac54a73c9b3", "8559c6e49f5f14d4"),
    "single images": ("e97e1694bddea119", "9bd1b3e633bd467b"),
    "flips": ("deb8f12d608587cc", "cfa34ed70a0ccf7f"),
}
"""Hashes of boxes and labels, and of pixels."""


def digest(*arrays: np.ndarray) -> str:
    whole = hashlib.blake2b(digest_size=8)
    for array in arrays:
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


def opencv() -> str:
    """What OpenCV's functions make of noise."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (93, 117, 3), np.uint8)
    matrix = np.array(((0.9, 0.2, -3.3), (-0.1, 1.1, 4.7)))
    turned = cv2.transform(noise, hue_rotation(0.01))
    return digest(
        cv2.resize(noise, (64, 51), interpolation=cv2.INTER_AREA),
        cv2.resize(noise, (59, 47), interpolation=cv2.INTER_AREA),
        cv2.resize(noise, (64, 77), interpolation=cv2.INTER_LINEAR),
        cv2.resize(noise[3:40, 5:70], (131, 41), interpolation=cv2.INTER_LINEAR),
        cv2.warpAffine(noise, matrix, (64, 64), borderMode=cv2.BORDER_CONSTANT),
        cv2.addWeighted(noise, 0.47, noise[::-1], 0.53, 0.0),
        turned,
        cv2.addWeighted(turned, 1.7, noise, -0.6, 0.0),
    )


def noisy_records(folder: Path) -> list[Record]:
    records = []
    for number, (height, width) in enumerate(((90, 61), (64, 64), (33, 120), (47, 40), (64, 5))):
        rng = np.random.default_rng(number)
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        corners = rng.uniform(0, 0.5, (number + 1, 2))
        boxes = np.concatenate((corners, corners + 0.4), 1) * (width, height, width, height)
        records.append(write_record(folder / f"{number}.png", image, boxes))
    return records


def drawn(records: list[Record], augment: Augment) -> tuple[str, str]:
    data = DetectionDataset(records, SIDE, augment=augment, seed=11)
    samples = [data[epoch, index, 0] for epoch in range(8) for index in range(len(records))]
    labels = digest(*(array for sample in samples for array in (sample.boxes, sample.labels)))
    return labels, digest(*(sample.image for sample in samples))


def test_samples_are_drawn_as_ever(tmp_path: Path) -> None:
    found = {kind: drawn(noisy_records(tmp_path / kind), KINDS[kind]) for kind in KINDS}
    for kind, (labels, _) in found.items():
        assert labels == RECORDED[kind][0], kind
    if opencv() != OPENCV:
        pytest.skip(f"OpenCV {cv2.__version__} rounds otherwise than where this was recorded")
    for kind, (_, pixels) in found.items():
        assert pixels == RECORDED[kind][1], kind
