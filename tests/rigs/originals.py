"""Our models beside the original implementations, from files in ``../shared/parity``.

Each file holds random weights, and beside it lies what the original computes from them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from parity import load, run
from yolodet.detector.models.head import decode_boxes, distances_in_strides
from yolodet.detector.models.predictions import AUXILIARY, ONE_TO_MANY, ONE_TO_ONE, Predictions

ORIGINALS = Path(__file__).parents[3] / "shared" / "parity"
FILES = (
    *("yolo26n_nc80.pt", "yolo11n_nc80.pt", "yolov8n_nc80.pt"),
    *("v9-t_random.pt", "yolox_nano_random.pth"),
)
RAW, PIXELS, SCORES = 1e-3, 1e-2, 1e-4


def compare_with_original(file: str, *, fused: bool) -> None:
    """Raise AssertionError where our model answers otherwise than the original."""
    detector, _ = load(ORIGINALS / file)
    with np.load(ORIGINALS / f"{file.rsplit('.', 1)[0]}.npz") as arrays:
        expected = {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    detector = detector.fuse() if fused else detector
    if file.startswith("yolox"):  # the file holds BGR in 0..255
        _compare_yolox(run(detector, expected["x"].flip(1) / 255)[ONE_TO_MANY], expected["out"])
        return
    found = run(detector, expected["x"])
    if file.startswith("v9"):
        _compare_yolov9(found, expected)
        return
    heads = {ONE_TO_MANY: "raw."}
    if file.startswith("yolo26"):
        heads = {ONE_TO_MANY: "raw.one2many.", ONE_TO_ONE: "raw.one2one."}
    for branch, key in heads.items():
        _within(found[branch].logits, expected[f"{key}scores"].mT, RAW)
        _within(found[branch].distances, expected[f"{key}boxes"].mT, RAW)
    many, decoded = found[ONE_TO_MANY], expected["decoded"]  # [B,4+C,A]: box, then scores
    _within(_xywh(decode_boxes(many)), decoded[:, :4].mT, PIXELS)
    _within(many.logits.sigmoid(), decoded[:, 4:].mT, SCORES)


def _compare_yolox(found: Predictions, rows: torch.Tensor) -> None:
    """rows: [B,A,85] box, objectness, class probabilities."""
    _within(_xywh(decode_boxes(found)), rows[..., :4], PIXELS)
    _within(found.logits.sigmoid(), rows[..., 4:5] * rows[..., 5:], SCORES)


def _compare_yolov9(found: dict[str, Predictions], expected: dict[str, torch.Tensor]) -> None:
    for branch, key in ((ONE_TO_MANY, "Main"), (AUXILIARY, "AUX")):
        levels = [[expected[f"out.{key}.{i}.{part}"] for i in range(3)] for part in range(3)]
        logits, bins, distances = (torch.cat([x.flatten(-2) for x in part], -1) for part in levels)
        _within(found[branch].logits, logits.mT, RAW)
        sides_first = bins.transpose(1, 2).flatten(1, 2)  # [B,R,4,A] -> [B,4R,A]
        _within(found[branch].distances, sides_first.mT, RAW)
        _within(distances_in_strides(found[branch]), distances.mT, RAW)


def _within(found: torch.Tensor, expected: torch.Tensor, atol: float) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


def _xywh(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat(((boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]), -1)
