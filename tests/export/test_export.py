"""Exported files answer as the detector they were made from, whatever they are asked."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import (
    CLASS_NAMES,
    FREE,
    RUN_HERE,
    enliven,
    lively_detector,
    make_images,
    make_meta,
    needs_onnx,
    run_export,
)
from tiny import tiny_detector
from yolodet.detector.evaluate.postprocess import Detections, postprocess
from yolodet.detector.export.exported import ExportedDetector, SizeError, open_exported
from yolodet.detector.export.formats.onnx import store_half
from yolodet.detector.export.graph import ExportGraph, Shape
from yolodet.detector.export.proof.parity import TOLERANCES, compare
from yolodet.detector.models.build import build
from yolodet.detector.models.detector import Detector
from yolodet.detector.options.detect import DetectOptions
from yolodet.detector.options.formats import FORMATS

CPU = torch.device("cpu")


def find(model: Detector | ExportedDetector, images: torch.Tensor, nms: bool = False):
    """Detections of each image."""
    with torch.inference_mode():
        return postprocess(model(images), DetectOptions(conf=1e-4, nms=nms))


def assert_same(
    one: list[Detections], other: list[Detections], tolerance: str = "fp32"
) -> None:
    parity = compare(one, other, TOLERANCES[tolerance])
    assert parity.faults == [] and parity.matched > 3 * len(one)


def opened(result: dict) -> ExportedDetector:
    (entry,) = result["exports"]
    return open_exported(Path(entry["file"]), CPU)


@pytest.mark.parametrize("name", RUN_HERE)
def test_a_file_answers_as_the_detector_and_says_what_it_is(name: str, tmp_path: Path) -> None:
    result = run_export(tmp_path, format=name)
    assert result["passed"]
    (entry,) = result["exports"]
    row = FORMATS[name]
    ending = row.folder or row.suffix
    assert entry["file"] == str(tmp_path / f"best{ending}")
    parts = () if row.folder else row.parts
    expected = {f"best{suffix}" for suffix in (ending, f"{ending}.json", *parts)}
    assert {path.name for path in tmp_path.iterdir()} == expected, "nothing else is left"
    assert json.loads(Path(f"{entry['file']}.json").read_text())["parity"]["matched"] > 3
    model = opened(result)
    about = model.about
    assert about.names == CLASS_NAMES and about.provenance == "made by a <test> & more"
    assert about.image_size == (96, 96) and about.meta == make_meta()
    assert (about.license, about.letterbox, about.stride) == ("Apache-2.0", "center", 32)
    images = make_images(5, (96, 96))
    assert_same(find(lively_detector(), images), find(model, images))


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Format -> the file that ``dynamic=True`` writes, once for all tests."""

    @cache
    def written(name: str) -> Path:
        folder = tmp_path_factory.mktemp("dynamic")
        (entry,) = run_export(folder, format=name, dynamic=True, imgsz=160)["exports"]
        return Path(entry["file"])

    return written


@pytest.mark.parametrize("name", FREE)
def test_one_dynamic_file_takes_any_batch_and_size(
    name: str, dynamic: Callable[[str], Path]
) -> None:
    model = open_exported(dynamic(name), CPU)
    for count, size in ((1, (320, 256)), (3, (384, 384)), (8, (160, 224))):
        images = make_images(count, size)
        assert_same(find(lively_detector(), images), find(model, images))
    with pytest.raises(SizeError, match="sides from 128 pixels on, not 96x96"):
        model(make_images(1, (96, 96)))


@needs_onnx
def test_a_real_family_is_dynamic_and_half_of_the_size_in_half(tmp_path: Path) -> None:
    import onnx

    torch.manual_seed(0)
    real = enliven(build("yolo26n", len(CLASS_NAMES)))
    model = opened(run_export(tmp_path, real, dynamic=True, imgsz=128))
    in_half = onnx.load(tmp_path / "best.onnx")
    store_half(in_half)
    assert in_half.ByteSize() < 0.55 * (tmp_path / "best.onnx").stat().st_size
    for count, size in ((1, (160, 128)), (3, (128, 224))):
        images = make_images(count, size)  # untrained layers make much of the order of sums
        assert_same(find(real, images), find(model, images), tolerance="fp16")


@pytest.mark.parametrize("name", RUN_HERE)
def test_a_head_that_needs_nms_has_it_inside(name: str, tmp_path: Path) -> None:
    only_many = tiny_with_one_head()
    model = opened(run_export(tmp_path, only_many, format=name))
    assert model.about.nms and model.branches == ("one_to_one",), "finished rows"
    images = make_images(3, (96, 96))
    assert_same(find(only_many, images), find(model, images))


def tiny_with_one_head() -> Detector:
    torch.manual_seed(0)
    model = tiny_detector(len(CLASS_NAMES))
    model.drop(["one_to_one"])
    return enliven(model)


@pytest.mark.parametrize("name", RUN_HERE)
def test_raw_outputs_are_those_of_the_head(name: str, tmp_path: Path) -> None:
    only_many = tiny_with_one_head()
    model = opened(run_export(tmp_path, only_many, format=name, raw=True))
    assert model.branches == ("one_to_many",)
    images = make_images(3, (96, 96))
    assert_same(find(only_many, images), find(model, images))
    boxes, scores = model.runner((images[:1].float() / 255).numpy())
    assert boxes.shape == (1, 189, 4) and scores.shape == (1, 189, len(CLASS_NAMES))


@pytest.mark.parametrize("name", RUN_HERE)
def test_uint8_images_bgr_and_another_range_are_handled_inside(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tiny_detector(len(CLASS_NAMES))
    model.bgr, model.scale = True, 255.0
    enliven(model)
    file = opened(run_export(tmp_path, model, format=name, uint8=True))
    images = make_images(2, (96, 96))
    assert_same(find(model, images), find(file, images))
    assert file.runner(images[:1].numpy())[0].shape == (1, 300, 6)


def test_a_fixed_batch_is_filled_up_and_other_sizes_are_refused(tmp_path: Path) -> None:
    model = opened(run_export(tmp_path, format="torchscript", batch=3, imgsz="64,96"))
    images = make_images(7, (64, 96))
    assert_same(find(lively_detector(), images), find(model, images))
    with pytest.raises(SizeError, match="takes images of 64x96, not 96x96"):
        model.input_size(96)
    with pytest.raises(SizeError, match="takes images of 64x96"):
        model(make_images(1, (96, 96)))


def test_the_detector_that_is_exported_stays_as_it_was() -> None:
    model = lively_detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ExportGraph(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.branches == ("one_to_many", "one_to_one")


def test_detections_are_sorted_finite_and_padded() -> None:
    graph = ExportGraph(lively_detector(), max_det=600)
    rows = graph(graph.example(Shape((96, 96), 2)))
    assert rows.shape == (2, 600, 6) and bool(rows.isfinite().all())
    assert bool((rows[:, :-1, 4] >= rows[:, 1:, 4]).all())
    assert rows.dtype == torch.float32 and int((rows[0, :, 4] > 0).sum()) == 189 * 3


@needs_onnx
def test_input_and_outputs_have_the_promised_names(dynamic: Callable[[str], Path]) -> None:
    import onnx

    model = onnx.load(dynamic("onnx"))
    sides = model.graph.input[0].type.tensor_type.shape.dim
    names = [side.dim_param or side.dim_value for side in sides]
    assert model.graph.input[0].name == "images" and names == ["batch", 3, "height", "width"]
    assert [output.name for output in model.graph.output] == ["detections"]
    texts = {pair.key: pair.value for pair in model.metadata_props}
    assert ast.literal_eval(texts["names"]) == dict(enumerate(CLASS_NAMES))
    assert {op.domain for op in model.opset_import} <= {"", "ai.onnx"}, "no operators of our own"


@needs_onnx
def test_half_weights_are_widened_by_the_file_itself(tmp_path: Path) -> None:
    import onnx

    model = opened(run_export(tmp_path, half=True))
    kinds = {
        tensor.data_type
        for tensor in onnx.load(tmp_path / "best-fp16.onnx").graph.initializer
        if np.prod(tensor.dims) >= 256 and tensor.data_type != onnx.TensorProto.INT64
    }
    assert kinds == {onnx.TensorProto.FLOAT16}
    parity = compare(
        find(lively_detector(), make_images(4, (96, 96))),
        find(model, make_images(4, (96, 96))),
        TOLERANCES["fp16"],
    )
    assert parity.faults == [] and parity.score > 0, "rounded, and within its tolerance"


AFTER_OPENVINO = """
import signal, sys
from pathlib import Path
import openvino, torch
from openvino import opset13 as ops
from yolodet.detector.export.formats.openvino import open_file
path = Path(sys.argv[1])
images = ops.parameter([1, 3, 8, 8])
openvino.save_model(openvino.Model([ops.relu(images)], [images]), path)
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
runner = open_file(path, torch.device("cpu"))
signal.raise_signal(signal.SIGTERM)
"""


def test_a_signal_finds_its_stack_where_openvino_has_compiled(tmp_path: Path) -> None:
    """In a process of its own, which would not survive a stack that is gone."""
    pytest.importorskip("openvino")
    command = [sys.executable, "-c", AFTER_OPENVINO, tmp_path / "relu.xml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr
