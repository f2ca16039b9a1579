"""det export format=torch_export int8=: what is in the file, and the integers that it runs with."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exports import enliven, lively_detector, make_images, run_export, write_data
from tiny import val
from yolodet.detector.export.exported import open_exported
from yolodet.detector.export.formats import torch_export, torch_int8
from yolodet.detector.export.formats.interface import Settings
from yolodet.detector.export.graph import ExportGraph, Shape
from yolodet.detector.export.int8.torch_graph import TorchNetwork, quantized, walk
from yolodet.detector.export.int8.weights import LARGE
from yolodet.detector.models.build import build
from yolodet.detector.quantization.rounding import grid_of
from yolodet.detector.run.hardware import traits_of

CPU = torch.device("cpu")
SIZE = (96, 96)
INPUTS = [image[None].float().div(255).numpy() for image in make_images(3, SIZE, seed=30)]
TEXTS = {"precision": '"int8"'}
needs_integers = pytest.mark.skipif(
    not torch_int8.has_integers(), reason="torch has no convolutions of integers here"
)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TorchNetwork:
    place = tmp_path_factory.mktemp("float") / "float"
    return TorchNetwork.from_graph(
        ExportGraph(lively_detector()), place, Settings(Shape(SIZE)), TEXTS
    )


def targets(path: Path) -> list[str]:
    """Names of the operations that run when a file is called."""
    runner: Any = torch_export.open_file(path, CPU)
    return [str(node.target) for node in runner.module.graph.nodes]


def test_chosen_layers_compute_on_the_grids_of_their_ranges(network: TorchNetwork) -> None:
    """Against a float convolution of rounded numbers, written here; the others stay as they are."""
    ranges = network.find_ranges(INPUTS, "minmax")
    layers = network.layers[1:3]
    module = quantized(network.module, layers, ranges)
    convs = {each.name: each for each in network.operations if each.name in layers}
    before = dict(walk(module, INPUTS[0]))
    for name, conv in convs.items():
        step, low, high = grid_of(*ranges[conv.input[0]])
        x = (before[conv.input[0]] / step).round().clamp(low, high) * step
        assert conv.weight is not None
        weight = torch_int8.attribute(network.module, conv.weight).detach()
        steps = weight.abs().amax((1, 2, 3), keepdim=True) / 127
        node = next(each for each in module.graph.nodes if each.name == name)
        bias = torch_int8.attribute(module, node.args[2].target)
        wanted = torch.conv2d(x, (weight / steps).round() * steps, bias, *node.args[3:5])
        torch.testing.assert_close(before[name], wanted, rtol=1e-4, atol=1e-4)
    rounded = [each for each in module.graph.nodes if "dequantize_per_channel" in str(each.target)]
    assert len(rounded) == len(layers)


@pytest.mark.skipif("ONEDNN_MAX_CPU_ISA" in os.environ, reason="oneDNN is limited")
@pytest.mark.skipif(not traits_of(CPU).int8_native, reason="the processor has no VNNI")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="not x86")
def test_with_vnni_there_are_integers() -> None:
    """Or the tests below would be skipped, and files be slow, without a word."""
    assert torch_int8.has_integers()


@needs_integers
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_integers_give_what_the_file_says_in_float(
    network: TorchNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "a.pt2"
    if kind == "static":
        ranges = network.find_ranges(INPUTS, "minmax")
        count = len(network.layers)
        network.save(ranges, network.layers, path, TEXTS)
    else:
        count = network.save_weights(path, TEXTS, dynamic=True)
    assert sum("onednn.qconv" in each for each in targets(path)) == count
    (found,) = torch_export.open_file(path, CPU)(INPUTS[0])
    monkeypatch.setattr(torch_int8, "has_integers", lambda: False)
    assert not any("onednn" in each for each in targets(path))
    (wanted,) = torch_export.open_file(path, CPU)(INPUTS[0])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    plain = open_plain(network)
    assert 1e-4 < np.abs(found[..., 4] - plain[..., 4]).max() < 0.1  # it is rounded


def open_plain(network: TorchNetwork) -> np.ndarray:
    (found,) = torch_export.open_file(network.source, CPU)(INPUTS[0])
    return found


def test_stored_weights_are_widened_once(network: TorchNetwork, tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    assert network.save_weights(path, TEXTS) >= len(network.layers)
    assert not any("quantize" in each for each in targets(path))
    kept = [each for each in torch.export.load(path).state_dict.values() if each.ndim == 4]
    small = [each for each in kept if each.dtype == torch.int8]
    assert len(small) >= len(network.layers)
    assert all(each.numel() < LARGE for each in kept if each.dtype != torch.int8)
    (found,) = torch_export.open_file(path, CPU)(INPUTS[0])
    assert 0 < np.abs(found[..., 4] - open_plain(network)[..., 4]).max() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo26n", "yolo11n", "yolov8n", "yolov9t", "yolox_nano"])
def test_every_family_computes_with_integers(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    graph = ExportGraph(enliven(build(name, 3)))
    made = TorchNetwork.from_graph(graph, tmp_path / "float", Settings(Shape((64, 64))), TEXTS)
    images = [image[None].float().div(255).numpy() for image in make_images(2, (64, 64))]
    made.save(made.find_ranges(images, "minmax"), made.layers, tmp_path / "a.pt2", TEXTS)
    if torch_int8.has_integers():
        assert sum("onednn.qconv" in each for each in targets(tmp_path / "a.pt2")) == len(
            made.layers
        )
    size = (tmp_path / "a.pt2").stat().st_size / made.source.stat().st_size
    assert size < 0.65  # the graph itself takes a part of a small file


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_command_writes_a_proven_file_that_val_takes(tmp_path: Path, dynamic: bool) -> None:
    data = write_data(tmp_path)
    words: dict[str, Any] = {"format": "torch_export", "data": str(data), "dynamic": dynamic}
    if dynamic:
        words |= {"max_det": 100}
    (entry,) = run_export(tmp_path, int8=True, max_drop=0.05, **words)["exports"]
    assert entry["passed"] and entry["file"] == str(tmp_path / "best-int8.pt2")
    assert entry["quantization"]["weights"] >= 0.5 and entry["parity"]["ap"] is not None
    exported = open_exported(Path(entry["file"]), CPU)
    assert exported.about.precision == "int8" and exported.about.dynamic is dynamic
    found = val(model=entry["file"], data=str(data), project=str(tmp_path))
    assert found["metrics"]["map"] == pytest.approx(entry["parity"]["ap"][1], abs=2e-3)


@pytest.mark.parametrize("kind", ["weights", "dynamic"])
def test_without_data_weights_and_dynamic_are_written(tmp_path: Path, kind: str) -> None:
    (entry,) = run_export(tmp_path, format="torch_export", int8=kind)["exports"]
    assert entry["passed"] and entry["file"].endswith(f"best-int8-{kind}.pt2")
    assert entry["quantization"]["kind"] == f"int8-{kind}"
