"""The instruments of ``det amp``: what is seen in a layer, and what fp16 would make of it."""

from __future__ import annotations

import copy

import torch
from rows import each
from tiny import make_batch, make_criterion, tiny_detector
from torch import nn
from yolodet.detector.examine.layers import (
    LayerProbe,
    best_scale,
    layers_of,
    lost_in_fp16,
    watching,
)
from yolodet.detector.models.blocks import Attention, Conv
from yolodet.detector.models.build import build
from yolodet.detector.precision.precision import FIRST_SCALE
from yolodet.detector.precision.probe import Recording


def test_examining_layers_leaves_no_trace_and_scales_what_fp16_would_lose() -> None:
    torch.manual_seed(0)
    model, scale = tiny_detector(), 64.0
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    probe = LayerProbe(model, make_criterion(), make_batch(2), ("fp16",), {"fp16": scale})
    report = probe.run()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    for layer in report.layers:
        error = layer.errors["fp16"]
        assert 2.0**-15 < error.output < 0.005, layer.name  # fp16 keeps eleven bits
        assert error.lost <= layer.unscaled_lost["fp16"]


@each("name", ["yolo11n", "yolov8n", "yolov9t", "yolox_nano"])
def test_every_parameter_belongs_to_one_layer(name: str) -> None:
    model = build(name, 3)
    layers = layers_of(model)
    names = [f"{layer}.{p}" for layer, m in layers.items() for p, _ in m.named_parameters()]
    assert sorted(names) == sorted(p for p, _ in model.named_parameters())


def test_the_largest_number_is_seen_inside_a_layer_too() -> None:
    """A convolution overflows fp16 although its batch norm brings the output back to size."""
    conv = Conv(2, 2)
    with torch.no_grad():
        conv.conv.weight.fill_(1e5)
    with watching({"conv": conv}) as watched:
        output = conv(torch.rand(2, 2, 4, 4) + 1)
    assert output.abs().max() < 10
    assert watched.peaks["conv"] > 2e5
    assert watched.flows == {"conv": [False]}


def test_products_between_convolutions_are_seen() -> None:
    attention = Attention(16)
    with torch.no_grad():
        attention.qkv.norm.weight.fill_(1e3)  # queries times keys: a million and more
    modules: dict[str, nn.Module] = {"whole": attention, "whole.qkv": attention.qkv}
    with watching(modules) as watched:
        attention(torch.randn(1, 16, 4, 4))
    assert watched.peaks["whole.qkv"] < 1e4
    assert watched.peaks["whole"] > 1e6


def test_gradients_lost_in_fp16_are_counted() -> None:
    """fp16's smallest number is 2^-24; half of it rounds to zero.  Exact zeros do not count."""
    gradient = torch.tensor([2.0**-26, 2.0**-24, 2.0**-30, 1.0, 0.0])
    record = Recording(gradients={0: gradient})
    assert lost_in_fp16(record, 1.0) == 2 / 4
    assert lost_in_fp16(record, 2.0**4) == 1 / 4
    assert lost_in_fp16(record, 2.0**10) == 0


@each("peak", [0.3, 1.0, 2.0, 1000.0, 65504.0, 1e6])
def test_the_best_loss_scale_is_the_largest_that_stays_finite(peak: float) -> None:
    scale = best_scale(peak)
    assert torch.tensor(peak * scale).half().isfinite()
    assert scale == FIRST_SCALE or torch.tensor(peak * scale * 2).half().isinf()
