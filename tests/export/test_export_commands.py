"""det export on the command line, and exported files in det val and det predict."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from exports import (
    CLASS_NAMES,
    FREE,
    lively_detector,
    make_image,
    make_images,
    make_run,
    needs_onnx,
    refused,
    run_export,
    save_checkpoint,
)
from rows import each
from yolodet.cli import main
from yolodet.detector import api
from yolodet.detector.checkpoints import evaluate
from yolodet.detector.commands.val import check_val
from yolodet.detector.evaluate.postprocess import postprocess
from yolodet.detector.export.formats import torchscript
from yolodet.detector.export.formats.onnx import REFUSALS
from yolodet.detector.export.graph import ExportGraph
from yolodet.detector.options import formats
from yolodet.detector.options.detect import DetectOptions
from yolodet.detector.options.parse import parse
from yolodet.detector.options.val import ValConfig
from yolodet.detector.run.log import Log

SCRIPT = "format=torchscript"
"""The format that needs no package and is written fastest."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``weights`` of the only run below the current folder."""
    return make_run(tmp_path, monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six images whose labels are what the detector sees there, a little off."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / "own" / kind).mkdir(parents=True)
    images = make_images(6, (96, 96), seed=20)
    with torch.inference_mode():
        found = postprocess(lively_detector()(images), DetectOptions(conf=0.0, max_det=40))
    for number, (image, detections) in enumerate(zip(images, found, strict=True)):
        path = tmp_path / "own" / "images" / f"{number}.png"
        assert cv2.imwrite(str(path), image.permute(1, 2, 0).numpy()[..., ::-1])
        boxes = detections.boxes[:40:4].clamp(0, 96).numpy() + rng.uniform(0, 2, (10, 4))
        boxes = boxes.clip(0, 96)
        rows = [
            f"{label} {(b[0] + b[2]) / 192} {(b[1] + b[3]) / 192} "
            f"{(b[2] - b[0]) / 96} {(b[3] - b[1]) / 96}\n"
            for b, label in zip(boxes, detections.labels[:40:4].tolist(), strict=True)
            if (b[2:] > b[:2] + 1).all()
        ]
        (tmp_path / "own" / "labels" / f"{number}.txt").write_text("".join(rows))
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(CLASS_NAMES))
    yaml = tmp_path / "own" / "data.yaml"
    yaml.write_text(f"train: images\nval: images\nnames:\n{names}")
    return yaml


def test_export_alone_takes_the_newest_run(run: Path, capsys) -> None:
    assert main(["export", SCRIPT]) == 0
    out, err = capsys.readouterr()
    file = Path("runs/train/weights/best.torchscript")
    assert out == f"exported: {file}\n" and file.is_file()
    assert f"using the newest run's best weights: {file.with_suffix('.safetensors')}" in err
    assert "matched" in err and "same" in err


def test_several_formats_go_into_one_folder(run: Path, tmp_path: Path, capsys) -> None:
    call = ["export", str(run / "best.safetensors"), "format=torchscript,torch_export", "--json"]
    assert main([*call, f"output={tmp_path / 'out'}"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    files = [Path(each["file"]) for each in result["exports"]]
    assert [file.name for file in files] == ["best.torchscript", "best.pt2"]
    assert all(file.is_file() for file in files)


def test_a_file_that_answers_otherwise_fails_and_is_kept_apart(
    run: Path, monkeypatch, capsys
) -> None:
    assert main(["export", SCRIPT]) == 0
    good = (run / "best.torchscript").read_bytes()
    write = torchscript.write

    def write_another(graph: ExportGraph, *rest) -> None:
        for tower in graph.model.head.one_to_one.boxes:
            tower[-1].bias.data += 0.1  # strides: 0.8 pixels and more
        write(graph, *rest)

    monkeypatch.setattr(torchscript, "write", write_another)
    capsys.readouterr()
    assert main(["export", SCRIPT]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("MISMATCH: ") and "boxes differ by" in err
    assert (run / "best.torchscript").read_bytes() == good, "the file of before stays"
    report = json.loads((run / "best.torchscript.failed.json").read_text())
    assert not report["passed"] and report["parity"]["pixels"] > 0.7
    assert (run / "best.torchscript.failed").is_file()


@each(
    ("typed", "answer"),
    [
        ("format=onxx", "there is no format 'onxx'; did you mean onnx?"),
        ("format=pytorch", "there is no format 'pytorch'"),
        ("int8=True", "int8=True is calibrated with images: name the data with data="),
        ("calibration=entropy", "calibration= has no effect without int8=True"),
        ("half=True", "half=True is not for format=torchscript on device=cpu: use device=0"),
        ("half=True device=mps", "half=True is not for format=torchscript on device=mps: use"),
        ("imgsz=100", "expected multiples of the stride 32, such as 96"),
        ("imgsz=64,x", "expected a side or height,width"),
        ("batch=0", "batch=0 is out of range"),
        ("dynamic=True batch=2", "batch=2 has no effect with dynamic=True"),
        ("dynamic=True imgsz=64", "takes sides from 128 on"),
        ("raw=True max_det=9", "max_det=9 has no effect with raw=True"),
        ("format=coreml", "format=coreml cannot hold the choice of detections: use raw=True"),
        ("format=coreml raw=True", "format=coreml runs on darwin only"),
        ("opset=20", "opset=20 has no effect on format=torchscript"),
        ("split=test", "split= has no effect without data="),
        ("device=gpu", "device=gpu: expected cpu, mps, cuda"),
        ("model=none.safetensors", "no such file"),
        ("model=yolo26n", "model=yolo26n has not been trained"),
        ("model=none.onnx", "model=none.onnx: no such file"),
        ("output=x.onnx", "a file of format=torchscript ends in .torchscript"),
        ("output=no/x.torchscript", "make the folder no first"),
        ("data=none.yaml", "none.yaml"),
    ],
)
def test_contradictory_options_are_refused_in_one_line(
    run: Path, capsys, typed: str, answer: str
) -> None:
    words = typed.split()
    usual = [] if typed.startswith("format=") else [SCRIPT]
    assert answer in refused(capsys, *usual, *words)
    assert [path.name for path in run.iterdir()] == ["best.safetensors"]


def test_an_exported_file_is_not_exported_again(run: Path, capsys) -> None:
    assert main(["export", SCRIPT]) == 0
    capsys.readouterr()
    line = refused(capsys, f"model={run / 'best.torchscript'}")
    assert line.endswith("is exported already: name its checkpoint")


def test_a_missing_package_names_its_extra(run: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    line = refused(capsys, "format=openvino")
    assert line == (
        "format=openvino needs openvino, onnx, onnxscript, onnxruntime, which is not installed: "
        "pip install 'yolodet[openvino]'"
    )


@each("row", formats.FORMATS.values())
def test_what_only_writes_a_format_is_not_needed_to_run(row: formats.Format, monkeypatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: name in row.run_by or None)
    formats.require(row, to_run=True)
    if row.written_by:
        with pytest.raises(formats.MissingPackage, match=f"needs {row.written_by[0]}"):
            formats.require(row)
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    if row.run_by:
        with pytest.raises(formats.MissingPackage, match=f"needs {', '.join(row.run_by)}, which"):
            formats.require(row, to_run=True)


def test_running_an_onnx_file_does_not_ask_for_what_writes_it() -> None:
    needed = {name: set(row.run_by) for name, row in formats.FORMATS.items()}
    assert needed["onnx"] == {"onnx", "onnxruntime"} and needed["openvino"] == {"openvino"}
    assert needed["tflite"] == {"ai_edge_litert"} and needed["torchscript"] == set()


def test_a_checkpoint_of_a_newer_schema_is_refused(run: Path, capsys) -> None:
    save_checkpoint(run, schema=99)
    assert "has checkpoint schema 99" in refused(capsys, SCRIPT)


def test_a_size_that_is_wired_into_a_dynamic_file_is_found(run: Path, monkeypatch, capsys) -> None:
    write = torchscript.write

    class Wired(torch.nn.Module):
        """Right at the usual size, and at no other."""

        def __init__(self, graph: ExportGraph) -> None:
            super().__init__()
            self.graph, self.example = graph, graph.example

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.graph(torch.nn.functional.interpolate(images, (160, 160)))

    def wired(graph: ExportGraph, *rest) -> None:
        write(Wired(graph).eval(), *rest)

    monkeypatch.setattr(torchscript, "write", wired)
    assert main(["export", SCRIPT, "imgsz=160"]) == 0, "a file of one size"
    capsys.readouterr()
    assert main(["export", SCRIPT, "imgsz=160", "dynamic=True", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["ok"] is False, "as the exit code says"
    assert content["result"]["passed"] is False


def without_boxes(data: Path, *numbers: int) -> None:
    for number in numbers:
        (data.parent / "labels" / f"{number}.txt").write_text("")


def test_where_no_image_has_a_box_boxes_are_compared_and_ap_is_not(
    run: Path, data: Path, capsys
) -> None:
    without_boxes(data, 0, 3)  # those that fraction=0.5 takes of the five with usable labels
    (data.parent / "labels" / "1.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    assert main(["export", SCRIPT, f"data={data}", "fraction=0.5", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["result"]["exports"][0]["parity"]["ap"] is None
    finding, *_, none = content["warnings"]
    assert finding.startswith("val: 1 x ") and "1.txt:1" in finding, "as det val says it"
    assert f"none of 2 images of split=val of data={data} has a box" in none
    assert "fraction=" in none and "split=" in none


@needs_onnx
def test_int8_without_a_box_to_judge_by_is_refused(run: Path, data: Path, capsys) -> None:
    without_boxes(data, 0, 2, 4)
    line = refused(capsys, f"data={data}", "fraction=0.5", "int8=True")
    assert line == (
        f"int8=True is judged by its AP, but none of 3 images of split=val of data={data} has "
        "a box: use a larger fraction=, or another split="
    )
    assert [path.name for path in run.iterdir()] == ["best.safetensors"]


@pytest.mark.parametrize("name", FREE)
def test_val_gives_the_same_ap_for_checkpoint_and_file(name: str, run: Path, data: Path) -> None:
    result = run_export(run, format=name, data=str(data), batch=4)
    (entry,) = result["exports"]
    ap, ap_here = entry["parity"]["ap"]
    assert 0.05 < ap < 1 and ap_here == pytest.approx(ap, abs=1e-3)
    for model, wanted in ((run / "best.safetensors", ap), (entry["file"], ap)):
        config, given = parse(
            ValConfig,
            {"model": str(model), "data": str(data), "device": "cpu", "workers": 0, "plots": False,
             "verbose": False, "batch": 5},
        )  # fmt: skip
        check_val(config, given)
        measured = evaluate.val(config, given, Log(verbose=False))
        assert measured["metrics"]["map"] == pytest.approx(wanted, abs=1e-3)
        assert measured["precision"] == "fp32" and "NMS-free" in measured["head"]


def test_predict_finds_the_same_with_checkpoint_and_file(run: Path, tmp_path: Path) -> None:
    assert main(["export", SCRIPT, "imgsz=64,96"]) == 0
    image = make_image((50, 90), 3)
    words = {"conf": 0.2, "imgsz": 96, "device": "cpu", "verbose": False}
    (wanted,) = api.YOLO(run / "best.safetensors").predict(image, **words)
    file = api.YOLO(run / "best.torchscript")
    words.pop("imgsz")
    (found,) = file.predict(image, **words)
    assert len(found) > 3
    assert set(wanted.boxes.cls.tolist()) <= set(found.boxes.cls.tolist())
    assert main(["export", SCRIPT]) == 0
    file = api.YOLO(run / "best.torchscript")
    (found,) = file.predict(image, **words)
    assert np.array_equal(found.boxes.cls, wanted.boxes.cls)
    assert np.allclose(found.boxes.xyxy, wanted.boxes.xyxy, atol=0.01)
    assert np.allclose(found.boxes.conf, wanted.boxes.conf, atol=1e-4)
    (few,) = file.predict(image, classes="kite", **words)
    assert set(few.boxes.cls.tolist()) == {1}


@each(
    ("typed", "answer"),
    [
        ("imgsz=128", "this file takes images of 96x96, not 128x128"),
        ("amp=fp16", "amp= has no effect on"),
        ("nms=True", "nms= has no effect on"),
        ("max_det=400", "returns at most 300"),
        ("model=none.torchscript", "no such file"),
    ],
)
def test_what_a_file_does_not_have_is_refused(run: Path, capsys, typed: str, answer: str) -> None:
    assert main(["export", SCRIPT]) == 0
    cv2.imwrite("image.png", make_image((50, 90), 3))
    model = "runs/train/weights/best.torchscript"
    words = [] if typed.startswith("model=") else [f"model={model}"]
    capsys.readouterr()
    assert main(["predict", "image.png", *words, typed]) == 2
    assert answer in capsys.readouterr().err.splitlines()[-1]


def test_settings_of_nms_that_do_nothing_on_a_file_are_said(run: Path, capsys) -> None:
    cv2.imwrite("image.png", make_image((50, 90), 3))
    call = ["predict", "image.png", "model=runs/train/weights/best.torchscript", "save=False"]
    assert main(["export", SCRIPT]) == 0
    assert main([*call, "iou=0.7"]) == 0
    assert "iou= has no effect on" in capsys.readouterr().err


def test_settings_of_nms_do_nothing_on_a_raw_file_without_it(run: Path, capsys) -> None:
    assert main(["export", SCRIPT, "raw=True"]) == 0
    cv2.imwrite("image.png", make_image((50, 90), 3))
    call = ["predict", "image.png", "model=runs/train/weights/best.torchscript"]
    for typed in ("iou=0.3", "agnostic_nms=True"):
        capsys.readouterr()
        assert main([*call, typed]) == 0
        said = capsys.readouterr().err
        assert f"{typed} has no effect on the NMS-free head of runs/train/weights/best" in said
    assert main(call) == 0
    assert main(["export", SCRIPT, "raw=True", "nms=True"]) == 0
    assert main([*call, "iou=0.3"]) == 0, "here NMS comes after the file"


def test_an_oblong_file_is_measured(run: Path, data: Path, capsys) -> None:
    assert main(["export", SCRIPT, "imgsz=64,96", f"data={data}", "fraction=0.5"]) == 0
    file = run / "best.torchscript"
    capsys.readouterr()
    assert main(["val", f"model={file}", f"data={data}", "plots=False", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["metrics"]["map"] >= 0


def test_a_damaged_or_foreign_file_is_refused(run: Path, capsys) -> None:
    cv2.imwrite("image.png", make_image((50, 90), 3))
    for suffix in (".torchscript", ".pt2"):
        (run / f"x{suffix}").write_bytes(b"PK\x03\x04 not a whole archive")
        assert main(["predict", "image.png", f"model={run / 'x'}{suffix}"]) == 1
        assert "is not a whole" in capsys.readouterr().err.splitlines()[-1]


@needs_onnx
def test_a_damaged_or_foreign_onnx_is_refused(run: Path, capsys) -> None:
    cv2.imwrite("image.png", make_image((50, 90), 3))
    wrong = {b"\xff\xff\xff": "not a whole ONNX file", b"": "was not written by"}
    for content, answer in wrong.items():
        (run / "x.onnx").write_bytes(content)
        assert main(["predict", "image.png", f"model={run / 'x.onnx'}"]) == 1
        assert answer in capsys.readouterr().err.splitlines()[-1]


@needs_onnx
def test_what_onnxruntime_cannot_load_is_reported_in_one_line(
    run: Path, monkeypatch, capsys
) -> None:
    import onnx
    import onnxruntime

    assert main(["export"]) == 0
    cv2.imwrite("image.png", make_image((50, 90), 3))
    call = ["predict", "image.png", "model=runs/train/weights/best.onnx"]
    model = onnx.load(run / "best.onnx")
    model.graph.node[0].op_type = "Nope"
    kept = [pair for pair in model.metadata_props if pair.key != "checksum"]
    unsealed = "unsealed".ljust(64, ".")
    onnx.helper.set_model_props(
        model, {**{pair.key: pair.value for pair in kept}, "checksum": f'"{unsealed}"'}
    )
    (run / "best.onnx").write_bytes(model.SerializeToString())
    capsys.readouterr()
    assert main(call) == 1
    said = "det: error: runs/train/weights/best.onnx: ONNX Runtime cannot load it ("
    assert said in capsys.readouterr().err.splitlines()[-1]
    state = onnxruntime.capi.onnxruntime_pybind11_state
    for name in REFUSALS:

        def refuse(*args, **words):
            raise getattr(state, name)("made up")  # noqa: B023

        monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
        assert main(call) == 1
        assert f"{said}made up)" in capsys.readouterr().err.splitlines()[-1]


def test_info_describes_an_exported_file(run: Path, capsys) -> None:
    assert main(["export", SCRIPT, "uint8=True"]) == 0
    capsys.readouterr()
    assert main(["info", str(run / "best.torchscript"), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)["result"]
    assert about["kind"] == "exported file" and about["names"] == list(CLASS_NAMES)
    assert (about["format"], about["input"]) == ("torchscript", "uint8")


def test_python_exports_too(run: Path) -> None:
    model = api.YOLO(run / "best.safetensors", verbose=False)
    result = model.export(format="torchscript", imgsz=[64, 96], verbose=False)
    assert result["passed"] is True and (run / "best.torchscript").is_file()
