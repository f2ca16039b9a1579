"""det export format=tflite in int8=, half=: what is in the file, and what stays in float."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exports import disturbed, lively_detector, make_images, run_export, write_data
from yolodet.detector.export.exported import open_exported
from yolodet.detector.export.formats.interface import Settings
from yolodet.detector.export.graph import ExportGraph, Shape
from yolodet.detector.export.int8.effects import measure_effects
from yolodet.detector.export.int8.tflite import TfliteNetwork, module_of
from yolodet.detector.export.targets import choose, name_of
from yolodet.detector.models.detector import Detector
from yolodet.detector.options import formats
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.formats import FORMATS, MissingPackage, missing_packages

needs_tflite = pytest.mark.skipif(bool(missing_packages(FORMATS["tflite"])), reason="needs tflite")
CPU = torch.device("cpu")
SIZE = (96, 96)
INPUTS = [image[None].float().div(255).numpy() for image in make_images(4, SIZE, seed=30)]
WORST = "head.one_to_one.0"


def write_float(folder: Path, model: Detector) -> TfliteNetwork:
    texts = {"names": "[]"}
    settings = Settings(Shape(SIZE))
    return TfliteNetwork.from_graph(ExportGraph(model), folder / "float", settings, texts)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> TfliteNetwork:
    return write_float(tmp_path_factory.mktemp("float"), lively_detector())


@pytest.fixture(scope="module")
def ranges(network: TfliteNetwork) -> dict[str, Any]:
    return network.find_ranges(INPUTS, "minmax")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("own"))


class Opened:
    """Tensors and operations of a TFLite file.  details: by name."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self.interpreter = Interpreter(
            model_path=str(path),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self.interpreter.allocate_tensors()
        self.details = {each["name"]: each for each in self.interpreter.get_tensor_details()}
        self.operations = self.interpreter._get_ops_details()
        self.kinds = [each["op_name"] for each in self.operations]

    def weights(self) -> dict[str, dict[str, Any]]:
        """Name of a layer's weight as it is stored -> its details."""
        by_index = {each["index"]: each for each in self.details.values()}
        layers = [each for each in self.operations if each["op_name"] in TfliteNetwork.LAYERS]
        found = [by_index[each["inputs"][1]] for each in layers]
        return {each["name"]: each for each in found}

    def value(self, name: str) -> np.ndarray:
        return self.interpreter.get_tensor(self.details[name]["index"])


def test_modules_are_called_as_in_the_detector() -> None:
    name = "a.ExportGraph/b.Detector_model/c.Backbone_backbone/d.Sequential_stage2/e.Conv_down"
    assert module_of(f"{name}/torch.nn.modules.conv.Conv2d_conv;1") == "backbone.stage2.down"
    head = "a.ExportGraph/b.Detector_model/c.Head_head/d.Branch_one_to_one/e.Sequential_0"
    assert module_of(f"{head}/torch.nn.modules.conv.Conv2d_4") == "head.one_to_one.0.4"
    assert module_of("constant_7") == "constant_7"


@needs_tflite
def test_weights_are_int8_with_a_symmetric_scale_a_channel(network, ranges, tmp_path) -> None:
    network.save(ranges, network.layers, tmp_path / "int8.tflite", {})
    small, plain = Opened(tmp_path / "int8.tflite"), Opened(network.source)
    weights = {k: v for k, v in small.weights().items() if v["dtype"] == np.int8}
    assert len(weights) == len(network.layers) == 10
    for name, details in weights.items():
        numbers, wide = small.value(name).astype(np.float32), plain.value(name)
        how = details["quantization_parameters"]
        channels = wide.shape[how["quantized_dimension"]]
        assert len(how["scales"]) == channels and not how["zero_points"].any()
        sides = [1] * wide.ndim
        sides[how["quantized_dimension"]] = channels
        scales = how["scales"].reshape(sides)
        assert (np.abs(numbers * scales - wide) <= scales * 0.5001).all()


@needs_tflite
def test_what_chooses_detections_is_never_quantized(network, ranges, tmp_path) -> None:
    network.save(ranges, network.layers, tmp_path / "int8.tflite", {})
    model = Opened(tmp_path / "int8.tflite")
    behind = {model.details[name]["index"] for name in network.ends}
    dtypes = {each["index"]: each["dtype"] for each in model.details.values()}
    kinds = set()
    for each in model.operations:  # in order
        if behind & set(each["inputs"]):
            behind |= set(each["outputs"])
            kinds.add(each["op_name"])
    assert "LOGISTIC" in kinds and {"TOPK_V2", "GATHER_ND"} & kinds
    assert not {"QUANTIZE", "DEQUANTIZE"} & kinds
    assert np.int8 not in {dtypes[index] for index in behind}
    assert len(network.ends) == len(network.fixed) == 6
    for each in (*model.interpreter.get_input_details(), *model.interpreter.get_output_details()):
        assert each["dtype"] == np.float32
    before = model.kinds[: max(i for i, kind in enumerate(model.kinds) if kind == "CONV_2D")]
    assert before.count("QUANTIZE") == 1, "the image: from there on all is in integers"


@needs_tflite
def test_ranges_are_the_smallest_and_largest_numbers_seen(network, ranges) -> None:
    again = network.find_ranges(INPUTS, "minmax")
    assert ranges.keys() == again.keys()
    assert all(ranges[k] == again[k] for k in ranges), "no file that is made of them changes them"
    for name, numbers in zip(network.ends, network.outputs(ranges, (), INPUTS), strict=True):
        found = (float(ranges[name]["min"][0]), float(ranges[name]["max"][0]))
        assert found == pytest.approx((numbers.min(), numbers.max()), rel=1e-4)


@needs_tflite
def test_one_stage_alone_leaves_the_others_in_float(network, ranges, tmp_path) -> None:
    stage, layers = next(iter(network.stages.items()))
    network.save(ranges, layers, tmp_path / "part.tflite", {})
    kinds = [each["dtype"] for each in Opened(tmp_path / "part.tflite").weights().values()]
    assert kinds.count(np.int8) == len(layers) < len(network.layers), stage


@needs_tflite
def test_a_layer_made_sensitive_is_found(tmp_path: Path, network, ranges) -> None:
    usual = {e.stage: e.error for e in measure_effects(network, ranges, INPUTS)}
    hurt = write_float(tmp_path, disturbed())
    effects = measure_effects(hurt, hurt.find_ranges(INPUTS, "minmax"), INPUTS)
    assert effects[0].stage == WORST and effects[0].error > 5 * max(usual.values())
    assert effects[0].error > 5 * effects[1].error


@needs_tflite
def test_sensitive_layers_are_left_in_float_until_the_ap_holds(tmp_path: Path, data: Path) -> None:
    words = {"format": "tflite", "int8": True, "data": str(data), "max_drop": 0.05}
    (entry,) = run_export(tmp_path, disturbed(), **words)["exports"]
    report = entry["quantization"]
    assert entry["passed"]
    assert [each["stage"] for each in report["float"] if "stage" in each] == [WORST]
    before, after = entry["parity"]["ap"]
    assert before - report["trials"][0]["ap"] > 0.05 >= before - after


@needs_tflite
def test_a_file_in_int8_says_so_and_answers_alike(tmp_path: Path, data: Path) -> None:
    words = {"data": str(data), "format": "tflite", "int8": True, "batch": 3, "uint8": True}
    (entry,) = run_export(tmp_path, max_drop=0.05, **words)["exports"]
    assert entry["passed"] and entry["file"] == str(tmp_path / "best-int8.tflite")
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"best-int8.tflite", "best-int8.tflite.json"}
    model = open_exported(Path(entry["file"]), CPU)
    assert (model.about.precision, model.about.batch) == ("int8", 3)
    report = json.loads((tmp_path / "best-int8.tflite.json").read_text())["quantization"]
    assert (report["calibration"], report["images"], report["kind"]) == ("minmax", 8, "int8")
    assert report["bytes"] == entry["bytes"] and report["size"] < 1 and report["speedup"] > 0
    assert 0.9 < report["weights"] < 1
    before, after = entry["parity"]["ap"]
    assert before > 0.3 and before - after <= 0.05


@needs_tflite
@pytest.mark.parametrize(
    ("words", "dtype"), [({"int8": "weights"}, np.int8), ({"half": True}, np.float16)]
)
def test_stored_weights_are_smaller_and_computed_in_float(
    tmp_path: Path, network, words: dict[str, Any], dtype: type
) -> None:
    (entry,) = run_export(tmp_path, format="tflite", **words)["exports"]
    assert entry["passed"] and entry["parity"]["score"] > 0, "rounded, and within its tolerance"
    file = Opened(Path(entry["file"]))
    by_index = {each["index"]: each for each in file.details.values()}
    widened = [each for each in file.operations if each["op_name"] == "DEQUANTIZE"]
    assert {by_index[each["inputs"][0]]["dtype"] for each in widened} == {dtype}
    assert len(widened) == len(network.layers) + len(network.fixed)
    assert "QUANTIZE" not in file.kinds
    assert entry["bytes"] < network.source.stat().st_size


@needs_tflite
def test_dynamic_ranges_need_no_data_and_layers_take_floats(tmp_path: Path, network) -> None:
    """A layer with int8 weights and floats in and out is the hybrid one, which rounds by itself."""
    (entry,) = run_export(tmp_path, format="tflite", int8="dynamic")["exports"]
    assert entry["passed"] and entry["file"].endswith("best-int8-dynamic.tflite")
    assert entry["parity"]["score"] > 0 and entry["quantization"]["kind"] == "int8-dynamic"
    file = Opened(Path(entry["file"]))
    by_index = {each["index"]: each for each in file.details.values()}
    layers = [each for each in file.operations if each["op_name"] in network.LAYERS]
    kinds = {tuple(by_index[i]["dtype"] for i in each["inputs"][:2]) for each in layers}
    assert kinds == {(np.float32, np.int8)} and len(layers) == entry["quantization"]["layers"]
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(file.kinds)
    assert entry["bytes"] < network.source.stat().st_size


def test_other_formats_are_not_quantized_on_the_fly(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"int8=dynamic: .* use format=torch_export or tflite"):
        run_export(tmp_path, int8="dynamic")


@needs_tflite
def test_the_file_may_be_called_as_its_twin(tmp_path: Path) -> None:
    path = tmp_path / "twin.tflite"
    (entry,) = run_export(tmp_path, format="tflite", int8="weights", output=str(path))["exports"]
    assert entry["passed"] and path.stat().st_size == entry["bytes"]
    assert open_exported(path, CPU).about.precision == "int8-weights"
    assert entry["quantization"]["size"] < 0.9


def test_only_minmax_calibrates_tflite(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="format=tflite is calibrated by minmax"):
        run_export(tmp_path, format="tflite", int8=True, data="any.yaml", calibration="entropy")


def test_the_bench_says_what_is_not_calibrated_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: name)
    chosen, without = choose(None, data=True, calibration="percentile")
    names = [name_of(*pair) for pair in chosen]
    assert {"tflite", "tflite-fp16", "tflite-int8-weights", "onnx-int8"} <= set(names)
    assert without["tflite-int8"] == "it is calibrated by minmax, not by percentile"
    assert "tflite-int8" in [name_of(*pair) for pair in choose(None, data=True)[0]]


def test_a_missing_quantizer_names_the_extra(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None if "quant" in name else name)
    with pytest.raises(MissingPackage, match=r"needs litert_quantizer.*'yolodet\[tflite\]'"):
        run_export(tmp_path, format="tflite", half=True)
