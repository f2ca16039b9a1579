"""Seam: a model of any widths is described, built, saved and loaded from outside."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rows import each
from yolodet.detector.checkpoints.restore import restore
from yolodet.detector.models.build import architecture_of, build, build_from
from yolodet.weights.architecture import Architecture
from yolodet.weights.checkpoint import Meta, save_weights

KEPT = {"yolo26n": 7, "yolo26n-p2": 7, "yolo11n": 7, "yolov8n": 7, "yolov9t": 7, "yolov9m": 4,
        "yolox_nano": 7}  # fmt: skip
"""Eighths of the channels that stay."""


def odd_widths(usual: Architecture, kept: int) -> Architecture:
    """``kept`` eighths of the channels between the image and the outputs, as if pruned."""
    widths = {}
    for path, (c_in, c_out, groups) in usual.widths.items():
        last = path.startswith("head.") and not path.endswith(".conv")
        widths[path] = (
            c_in if c_in in (3, 12) else c_in * kept // 8,
            c_out if last else c_out * kept // 8,
            c_out * kept // 8 if groups == c_out > 1 else groups,
        )
    return replace(usual, widths=widths)


@each("name", KEPT)
def test_a_model_with_odd_widths_comes_back_from_its_checkpoint(name: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        own = odd_widths(architecture_of(build(name, 5)), KEPT[name])
    torch.manual_seed(0)
    model = build_from(Architecture.from_plain(json.loads(json.dumps(asdict(own))))).eval()
    assert architecture_of(model) == own
    meta = Meta(name, tuple("abcde"), 64, model.strides, "fp32", architecture=own)
    save_weights(tmp_path / "odd.safetensors", model.state_dict(), meta)
    loaded, again = restore(tmp_path / "odd.safetensors")
    assert again == meta
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        before, after = model(images), loaded.eval()(images)
    for branch in model.branches:
        assert torch.equal(before[branch].logits, after[branch].logits)
        assert torch.equal(before[branch].distances, after[branch].distances)
