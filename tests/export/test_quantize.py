"""det export int8=: what is in the file, which layers are left in float, and what is refused."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exports import (
    disturbed,
    lively_detector,
    make_images,
    needs_onnx,
    run_export,
    save_checkpoint,
    write_data,
)
from rows import each
from tiny import use_tiny_detector
from yolodet.cli import main
from yolodet.datasets.images.input_size import InputSize
from yolodet.detector.export.exported import open_exported
from yolodet.detector.export.formats import onnx as onnx_format
from yolodet.detector.export.formats.interface import Settings
from yolodet.detector.export.graph import ExportGraph, Shape
from yolodet.detector.export.int8 import quantizer as quantize
from yolodet.detector.export.int8.effects import Effect, measure_effects, relative_error
from yolodet.detector.export.int8.onnx import OnnxNetwork, run_all
from yolodet.detector.export.int8.onnx_graph import silu_floor
from yolodet.detector.export.int8.ranges import (
    calibration_images,
    find_ranges,
    inputs_of,
    network_of,
)
from yolodet.detector.export.int8.weights import quantize_weight
from yolodet.detector.export.proof.parity import Parity
from yolodet.detector.models.detector import Detector
from yolodet.detector.options.export import ExportConfig
from yolodet.detector.options.formats import FORMATS, missing_packages
from yolodet.detector.options.parse import parse
from yolodet.detector.run.log import Log

pytestmark = needs_onnx
CPU = torch.device("cpu")
SIZE = (96, 96)
INPUTS = [image[None].float().div(255).numpy() for image in make_images(4, SIZE, seed=30)]


def write_float(folder: Path, model: Detector) -> Path:
    path = folder / "float.onnx"
    onnx_format.write(ExportGraph(model), path, Settings(Shape(SIZE, 1, False)), {})
    return path


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> OnnxNetwork:
    return OnnxNetwork(write_float(tmp_path_factory.mktemp("float"), lively_detector()))


@pytest.fixture(scope="module")
def ranges(graph: OnnxNetwork) -> dict[str, tuple[float, float]]:
    return find_ranges(graph, INPUTS, "minmax")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("own"))


def tensors_of(model: Any) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def widened(model: Any) -> dict[str, Any]:
    """Name of a tensor that a DequantizeLinear makes -> the node."""
    return {n.output[0]: n for n in model.graph.node if n.op_type == "DequantizeLinear"}


def test_weights_are_int8_with_a_symmetric_scale_a_channel(graph, ranges) -> None:
    model = graph.quantized(ranges, graph.layers)
    values, makers = tensors_of(model), widened(model)
    layers = [node for node in model.graph.node if node.name in graph.layers]
    assert len(layers) == len(graph.layers) == 9
    floats = tensors_of(graph.model)
    sources = {n.name: n.input[1] for n in graph.model.graph.node if n.op_type == "Conv"}
    for node in layers:
        number, scale, zero = (values[name] for name in makers[node.input[1]].input)
        weight = floats[sources[node.name]]
        assert number.dtype == np.int8 and scale.shape == zero.shape == weight.shape[:1]
        assert not zero.any()
        error = np.abs(number * scale[:, None, None, None] - weight).reshape(len(weight), -1)
        assert (error.max(1) <= scale * 0.5001).all(), "rounded to the nearest step"


def test_what_chooses_detections_is_never_quantized(graph, ranges) -> None:
    model = graph.quantized(ranges, graph.layers)
    made = {name: node for node in model.graph.node for name in node.output}
    behind = set(graph.ends)
    for node in model.graph.node:  # in order
        if behind & set(node.input):
            behind |= set(node.output)
    kinds = {made[name].op_type for name in behind - set(graph.ends)}
    assert {"TopK", "Sigmoid", "Gather"} <= kinds
    assert not {"QuantizeLinear", "DequantizeLinear"} & kinds
    ends = [made[name] for name in graph.ends]
    assert len(ends) == 6 and all(node.input[1].startswith("model.head") for node in ends)
    assert set(graph.fixed) == {node.name for node in ends} | {"node_conv2d"}
    silu = [node for node in model.graph.node if node.op_type == "QuickGelu"]
    assert len(silu) == 10, "one float operation each"


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_ranges_do_not_depend_on_the_run_and_hold_what_was_seen(graph, method: str) -> None:
    first, second = (find_ranges(graph, INPUTS, method) for _ in range(2))
    assert first == second
    widest = find_ranges(graph, INPUTS, "minmax")
    assert first.keys() == widest.keys()
    for name, (low, high) in first.items():
        assert low <= 0 <= high, "zero has a step of its own"
        assert widest[name][0] <= low + 1e-6 and high <= widest[name][1] + 1e-6


def test_minmax_is_the_smallest_and_largest_number(graph) -> None:
    found = find_ranges(graph, INPUTS, "minmax")
    answers = run_all(network_of(graph), INPUTS)
    for name, numbers in zip(graph.ends, answers, strict=True):
        expected = min(numbers.min(), 0), max(numbers.max(), 0)
        assert found[name] == pytest.approx(expected, rel=1e-5)


def test_steps_are_not_spent_where_silu_says_nothing() -> None:
    for step in (0.1, 0.01, 0.001):
        floor = silu_floor(step)
        x = np.linspace(-60, floor, 1000)
        assert (np.abs(x / (1 + np.exp(-x))) <= step / 4 * 1.0001).all()
        assert abs((floor + 0.2) / (1 + np.exp(-floor - 0.2))) > step / 4


def config_of(data: Path, **words: Any) -> ExportConfig:
    return parse(ExportConfig, {"int8": True, "data": str(data), **words})[0]


def test_calibration_images_follow_the_seed_and_too_few_are_told(data: Path) -> None:
    def drawn(**words: Any) -> tuple[np.ndarray, list[str]]:
        log = Log(verbose=False)
        size = InputSize(*SIZE)
        return calibration_images(config_of(data, **words), size, "center", log), log.warnings

    half, warnings = drawn(fraction=0.5)
    assert half.shape == (4, 3, *SIZE) and half.dtype == np.uint8
    assert "calibrated with 4 images; with fewer than 100" in warnings[0]
    assert np.array_equal(half, drawn(fraction=0.5)[0])
    assert not np.array_equal(half, drawn(fraction=0.5, seed=1)[0])
    with pytest.raises(ValueError, match="leaves none to calibrate with"):
        drawn(fraction=0.01)


def test_the_last_batch_is_filled_up_with_images_that_were_there_already() -> None:
    images = make_images(5, SIZE).numpy()
    for batch, drawn in ((3, [0, 1, 2, 3, 4, 0]), (7, [0, 1, 2, 3, 4, 0, 1])):
        inputs = inputs_of(images, Shape(SIZE, batch, False), uint8=True)
        assert [len(each) for each in inputs] == [batch] * len(inputs)
        assert np.array_equal(np.concatenate(list(inputs)), images[drawn]), "and none is black"
    (one, *others) = inputs_of(images, Shape(SIZE, 1, True), uint8=False)
    assert one.dtype == np.float32 and np.array_equal(one, images[:1] / np.float32(255))
    assert len(others) == 4


def test_calibration_holds_one_batch_of_float_at_a_time(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, alive = OnnxNetwork.find_ranges, []

    def watched(self: OnnxNetwork, inputs: Any, *rest: Any) -> Any:
        made = []
        for images in inputs:
            made.append(weakref.ref(images))
        del images
        alive.append((len(made), sum(each() is not None for each in made)))
        return find(self, inputs, *rest)

    monkeypatch.setattr(OnnxNetwork, "find_ranges", watched)
    assert run_export(tmp_path, int8=True, data=str(data))["passed"]
    assert alive == [(8, 0)]


@pytest.mark.parametrize("name", ["float.onnx", "quantized.onnx", "part.onnx"])
def test_the_file_may_be_called_as_what_is_written_on_the_way(name: str, tmp_path: Path) -> None:
    (entry,) = run_export(tmp_path, int8="weights", output=str(tmp_path / name))["exports"]
    assert entry["passed"] and (tmp_path / name).stat().st_size == entry["bytes"]
    assert open_exported(tmp_path / name, CPU).about.precision == "int8-weights"
    assert entry["quantization"]["size"] < 0.7, "and is not its own twin"
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}.json"}


WORST = "head.one_to_one.classes.0"


def test_a_layer_made_sensitive_is_found(tmp_path: Path, graph, ranges) -> None:
    usual = {e.stage: e.error for e in measure_effects(graph, ranges, INPUTS)}
    hurt = OnnxNetwork(write_float(tmp_path, disturbed()))
    effects = measure_effects(hurt, find_ranges(hurt, INPUTS, "minmax"), INPUTS)
    assert effects[0].stage == WORST and effects[0].error > 10 * max(usual.values())
    assert effects[0].error > 10 * effects[1].error


def test_sensitive_layers_are_left_in_float_until_the_ap_holds(tmp_path: Path, data: Path) -> None:
    result = run_export(tmp_path, disturbed(), int8=True, data=str(data), max_drop=0.05)
    (entry,) = result["exports"]
    report = entry["quantization"]
    left = [each["stage"] for each in report["float"] if "stage" in each]
    assert entry["passed"] and left == [WORST]
    assert report["trials"][0] == {"left": [], "ap": report["trials"][0]["ap"]}
    before, after = entry["parity"]["ap"]
    assert before - report["trials"][0]["ap"] > 0.05 >= before - after


def test_a_file_in_int8_says_so_and_answers_alike(tmp_path: Path, data: Path) -> None:
    words = {"data": str(data), "int8": True, "calibration": "percentile", "batch": 3}
    result = run_export(tmp_path, **words)
    (entry,) = result["exports"]
    assert result["passed"] and entry["file"] == str(tmp_path / "best-int8.onnx")
    assert {p.name for p in tmp_path.iterdir()} == {"best-int8.onnx", "best-int8.onnx.json"}
    model = open_exported(Path(entry["file"]), CPU)
    assert (model.about.precision, model.about.batch) == ("int8", 3)
    report = json.loads((tmp_path / "best-int8.onnx.json").read_text())["quantization"]
    assert (report["calibration"], report["images"], report["layers"]) == ("percentile", 8, 9)
    assert report["bytes"] == entry["bytes"] == Path(entry["file"]).stat().st_size
    assert report["ms"] > 0 and report["speedup"] > 0
    before, after = entry["parity"]["ap"]
    assert before > 0.3 and before - after <= 0.01


@pytest.mark.skipif(bool(missing_packages(FORMATS["openvino"])), reason="needs openvino")
def test_openvino_holds_int8_too(tmp_path: Path, data: Path) -> None:
    (entry,) = run_export(tmp_path, format="openvino", int8=True, data=str(data))["exports"]
    assert entry["passed"] and entry["file"].endswith("best-int8_openvino_model")
    text = (tmp_path / "best-int8_openvino_model" / "best-int8.xml").read_text()
    assert 'element_type="i8"' in text and "FakeQuantize" in text


def test_int8_weights_need_no_data_and_are_exact_to_half_a_step(tmp_path: Path) -> None:
    import onnx

    result = run_export(tmp_path, int8="weights")
    (entry,) = result["exports"]
    assert result["passed"] and entry["file"].endswith("best-int8-weights.onnx")
    model = onnx.load(entry["file"])
    values = tensors_of(model)
    small = {name for name, tensor in values.items() if tensor.dtype == np.int8}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in small]
    assert len(casts) == len(small) == entry["quantization"]["layers"] >= 9
    kinds = {node.op_type for node in model.graph.node}
    assert not {"QuantizeLinear", "DequantizeLinear"} & kinds, "activations stay as they are"
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    weight[1] = 0
    small, scales = quantize_weight(weight)
    assert (np.abs(small * scales[:, None, None, None] - weight).max((1, 2, 3)) <= scales / 2).all()


def test_one_drop_too_large_ends_with_failed(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Whatever stays in float, the AP is said to be too low."""
    use_tiny_detector(monkeypatch)
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path)
    asked = []

    def low(self: Any, exported: Any, tolerance: Any) -> Parity:
        asked.append(exported)
        return Parity(1, 0.25, 5, 0, 0, 0.0, 0.0, ap=(0.9, 0.5), tolerance=tolerance)

    monkeypatch.setattr("yolodet.detector.export.proof.examiner.Examiner.compare", low)
    code = main(["export", "model=best.safetensors", "int8=True", f"data={data}", "quiet=True"])
    assert code == 1 and "MISMATCH: best-int8.onnx.failed" in capsys.readouterr().out
    assert (tmp_path / "best-int8.onnx.failed").exists()
    assert not (tmp_path / "best-int8.onnx").exists()
    report = json.loads((tmp_path / "best-int8.onnx.failed.json").read_text())
    assert report["parity"]["faults"] == ["AP drops by 0.4000"]
    assert report["quantization"]["weights"] >= 0.5 and len(asked) > 2


def test_the_search_finds_the_fewest_stages(graph, ranges, monkeypatch) -> None:
    """Eleven equal stages, of which three must stay in float."""
    effects = [Effect(f"stage{i}", (f"layer{i}",), 1.0 - i / 20) for i in range(11)]
    search = object.__new__(quantize.Search)
    search.network = type("Graph", (), {
        "layers": tuple(e.layers[0] for e in effects), "fixed": {}, "weights": staticmethod(len),
    })  # fmt: skip
    tried = []

    def holds(ranges: Any, left: Any, max_drop: float) -> bool:
        tried.append(len(left))
        return len(left) >= 3

    monkeypatch.setattr(search, "_holds", holds, raising=False)
    assert search._fewest({}, effects, 0.01) == 3
    assert tried == [1, 2, 4, 3], "the last file written is the one that is kept"
    assert search._most(effects) == 5, "half of the weights"


def test_weights_that_always_stay_count_and_nothing_is_written_twice(monkeypatch) -> None:
    effects = [Effect(f"stage{i}", (f"layer{i}",), 1.0 - i / 20) for i in range(11)]
    search = object.__new__(quantize.Search)
    layers = tuple(e.layers[0] for e in effects)
    tried = []
    monkeypatch.setattr(search, "_holds", lambda *it: tried.append(it) or False, raising=False)
    for fixed, most in ((5, 3), (11, 0)):
        names = {f"fixed{i}": "why" for i in range(fixed)}
        search.network = type("Graph", (), {
            "layers": layers, "fixed": names, "weights": staticmethod(len),
        })  # fmt: skip
        assert search._most(effects) == most, "half of all, less the fixed ones"
    assert search._fewest({}, effects, 0.01) == 0
    assert not tried, "the file with nothing in float was there and had failed"


def test_errors_are_relative_to_the_numbers() -> None:
    one = [np.array([3.0, 4.0]), np.array([100.0])]
    assert relative_error(one, one) == 0
    assert relative_error(one, [np.array([3.0, 9.0]), np.array([100.0])]) == pytest.approx(0.5)


@each(
    ("typed", "answer"),
    [
        ("int8=True", "int8=True is calibrated with images: name the data with data=, or use"),
        ("int8=weights seed=3", "seed= has no effect without int8=True"),
        ("max_drop=0.1", "max_drop= has no effect without int8=True"),
        ("int8=weights max_drop=0.1", "max_drop= has no effect without data="),
        ("int8=weights half=True", "half=True and int8= are two precisions"),
        ("int8=weights device=0", "int8= is written and compared on the CPU: use device=cpu"),
        ("int8=weights format=torchscript", "format=torchscript is not quantized so by det: use"),
        ("int8=True data=DATA fraction=0", "fraction=0 leaves no image to"),
        ("int8=four", "int8=four: expected one of"),
    ],
)
def test_contradictory_options_are_refused(
    tmp_path: Path, data: Path, monkeypatch, capsys, typed: str, answer: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path)
    words = [word.replace("DATA", str(data)) for word in typed.split()]
    assert main(["export", "model=best.safetensors", *words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and answer in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]
