"""Channels that are removed: the same answers as with the channels at zero, for every family."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from rows import each
from torch import nn
from yolodet.detector.compress.channels import CannotPrune, Group, Trace
from yolodet.detector.compress.narrow import masked, narrowed
from yolodet.detector.compress.rules import trace
from yolodet.detector.models.blocks import Conv, Norm
from yolodet.detector.models.build import architecture_of, build, build_from
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.gray import with_channels
from yolodet.detector.models.head import decode_boxes
from yolodet.weights.architecture import Architecture

NAMES = (
    *("yolo26n", "yolo26m", "yolo26n-p2", "yolo11n", "yolov8n", "yolov9t", "yolov9c"),
    *("yolox_nano", "yolox_s"),
)


def seen(name: str, classes: int = 3) -> Detector:
    """Random weights whose norms, biases and statistics are those of no fresh model."""
    torch.manual_seed(0)
    model = build(name, classes)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.7 / module.weight[0].numel() ** 0.5)
    return model.eval()


def drawn(groups: list[Group], seed: int) -> set[int]:
    """Another share of each group, at random."""
    rng = np.random.default_rng(seed)
    removed: set[int] = set()
    for group in groups:
        count = int(rng.integers(0, group.width))
        for part in group.parts:
            removed |= set(rng.permutation(part)[:count].tolist())
    return removed


def assert_alike(a: Detector, b: Detector) -> None:
    """Equal answers of all branches."""
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = a(images), b(images)
    assert ours.keys() == theirs.keys()
    for name, one in ours.items():
        other = theirs[name]
        assert float((one.logits - other.logits).abs().max()) < 1e-5 * max(
            1.0, float(other.logits.abs().max())
        )
        assert torch.allclose(one.distances, other.distances, rtol=1e-5, atol=1e-5)
        assert torch.allclose(decode_boxes(one), decode_boxes(other), rtol=1e-4, atol=1e-3)


def assert_all_but_the_ends_is_free(model: Detector, found: Trace) -> None:
    """What is not fixed can be narrowed: all but images, predictions and what is tied to them."""
    free = {root for group in found.groups() for part in group.parts for root in part.tolist()}
    for path, layer in found.layers.items():
        last = path.startswith("head.") and isinstance(model.get_submodule(path), nn.Conv2d)
        ends = last and not isinstance(model.get_submodule(path.rpartition(".")[0]), Conv)
        assert all((root in free) != ends for root in found.roots(layer.outputs).tolist()), path


@each("name", NAMES)
def test_a_narrow_model_answers_as_the_whole_one_with_these_channels_at_zero(name: str) -> None:
    model = seen(name)
    found = trace(model)
    groups = found.groups()
    assert found.layers.keys() == architecture_of(model).widths.keys()
    assert_all_but_the_ends_is_free(model, found)
    removed = drawn(groups, 0)
    small = narrowed(model, found, removed)
    assert sum(p.numel() for p in small.parameters()) < 0.7 * sum(
        p.numel() for p in model.parameters()
    )
    assert_alike(small, masked(model, found, removed))
    again = trace(small)
    more = drawn(again.groups(), 1)
    assert_alike(narrowed(small, again, more), masked(small, again, more))


@each("name", ("yolo26n", "yolox_nano"))
def test_gray_models_are_narrowed_too(name: str) -> None:
    model = build_from(with_channels(architecture_of(seen(name)), 1)).eval()
    found = trace(model)
    removed = drawn(found.groups(), 0)
    small = narrowed(model, found, removed)
    assert small.channels == 1
    assert_alike(small, masked(model, found, removed))


def test_a_narrow_model_is_an_ordinary_one() -> None:
    model = seen("yolo26n")
    found = trace(model)
    small = narrowed(model, found, drawn(found.groups(), 0))
    described = architecture_of(small)
    read = Architecture.from_plain(copy.deepcopy(vars(described)))
    twin = build_from(read)
    twin.load_state_dict(small.state_dict())
    assert_alike(small, twin.eval())
    assert {type(m) for m in twin.modules() if isinstance(m, nn.BatchNorm2d)} == {Norm}
    assert_alike(small, copy.deepcopy(small).fuse())


def test_a_block_without_a_rule_is_refused_by_its_name() -> None:
    model = seen("yolo26n")
    model.backbone.stage3.mix = nn.LSTM(4, 4)  # type: ignore[assignment]
    with pytest.raises(CannotPrune, match=r"backbone\.stage3\.mix is a LSTM, whose channels"):
        trace(model)
