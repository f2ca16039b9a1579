"""Checkpoints of other projects give, in our models, what their own code computed from them.

The fixtures (random weights and expected outputs) lie outside the repository; without them these
tests are skipped.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from yolodet.detector.models.build import architecture_from, build_from
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.head import decode_boxes, distances_in_strides
from yolodet.detector.models.predictions import AUXILIARY, ONE_TO_MANY, ONE_TO_ONE, Predictions
from yolodet.weights.importers import ImportedWeights, import_checkpoint

FIXTURES = Path(__file__).parents[3] / "shared" / "parity"
RAW, PIXELS, SCORES = 1e-3, 1e-2, 1e-4

pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no fixtures in {FIXTURES}")


def load(file: str) -> tuple[Detector, ImportedWeights, dict[str, torch.Tensor]]:
    imported = import_checkpoint(FIXTURES / file)
    architecture = architecture_from(imported.name, imported.num_classes, imported.tensors)
    detector = build_from(architecture).eval()
    detector.load_state_dict(imported.tensors)  # strict: every tensor, every shape
    with np.load(FIXTURES / f"{file.rsplit('.', 1)[0]}.npz") as arrays:
        return detector, imported, {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def run(detector: Detector, images: torch.Tensor) -> dict[str, Predictions]:
    with torch.inference_mode():
        return detector(images)


def assert_within(found: torch.Tensor, expected: torch.Tensor, atol: float) -> None:
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


def xywh(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat(((boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]), -1)


def assert_decoded(predictions: Predictions, decoded: torch.Tensor) -> None:
    """decoded: [B,4+C,A], centre and size in pixels, then scores."""
    assert_within(xywh(decode_boxes(predictions)), decoded[:, :4].mT, PIXELS)
    assert_within(predictions.logits.sigmoid(), decoded[:, 4:].mT, SCORES)


@pytest.mark.parametrize("name", ["yolo11n", "yolov8n"])
@pytest.mark.parametrize("fused", [False, True])
def test_one_headed_ultralytics_models(name: str, fused: bool) -> None:
    detector, imported, expected = load(f"{name}_nc80.pt")
    assert (imported.name, imported.license) == (name, "AGPL-3.0")
    assert imported.class_names == tuple(f"class{i}" for i in range(80))
    found = run(detector.fuse() if fused else detector, expected["x"])[ONE_TO_MANY]
    assert_within(found.logits, expected["raw.scores"].mT, RAW)
    assert_within(found.distances, expected["raw.boxes"].mT, RAW)
    assert_decoded(found, expected["decoded"])


@pytest.mark.parametrize("fused", [False, True])
def test_both_heads_of_yolo26(fused: bool) -> None:
    detector, imported, expected = load("yolo26n_nc80.pt")
    assert (imported.name, imported.license, imported.notes) == ("yolo26n", "AGPL-3.0", ())
    found = run(detector.fuse() if fused else detector, expected["x"])
    for branch, key in ((ONE_TO_MANY, "one2many"), (ONE_TO_ONE, "one2one")):
        assert_within(found[branch].logits, expected[f"raw.{key}.scores"].mT, RAW)
        assert_within(found[branch].distances, expected[f"raw.{key}.boxes"].mT, RAW)
    assert_decoded(found[ONE_TO_MANY], expected["decoded"])


@pytest.mark.parametrize("fused", [False, True])
def test_both_heads_of_yolov9(fused: bool) -> None:
    detector, imported, expected = load("v9-t_random.pt")
    assert (imported.name, imported.license) == ("yolov9t", "MIT")
    found = run(detector.fuse() if fused else detector, expected["x"])
    for branch, key in ((ONE_TO_MANY, "Main"), (AUXILIARY, "AUX")):
        levels = [[expected[f"out.{key}.{i}.{part}"] for i in range(3)] for part in range(3)]
        logits, bins, distances = (torch.cat([x.flatten(-2) for x in part], -1) for part in levels)
        assert_within(found[branch].logits, logits.mT, RAW)
        sides_first = bins.transpose(1, 2).flatten(1, 2)  # [B,R,4,A] -> [B,4R,A]
        assert_within(found[branch].distances, sides_first.mT, RAW)
        assert_within(distances_in_strides(found[branch]), distances.mT, RAW)


@pytest.mark.parametrize("fused", [False, True])
def test_yolox_boxes_and_joint_scores(fused: bool) -> None:
    detector, imported, expected = load("yolox_nano_random.pth")
    assert (imported.name, imported.license) == ("yolox_nano", "Apache-2.0")
    images = expected["x"].flip(1) / 255  # the fixture is BGR in 0..255
    found = run(detector.fuse() if fused else detector, images)[ONE_TO_MANY]
    assert_within(xywh(decode_boxes(found)), expected["out"][..., :4], PIXELS)
    joint = expected["out"][..., 4:5] * expected["out"][..., 5:]
    assert_within(found.logits.sigmoid(), joint, SCORES)
