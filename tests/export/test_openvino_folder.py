"""OpenVINO in a folder as readers of the field expect it, and folders that Ultralytics writes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from exports import (
    CLASS_NAMES,
    make_run,
    needs_onnx,
    write_data,
)
from yolodet import YOLO
from yolodet.cli import main
from yolodet.detector.export.exported import about_file
from yolodet.detector.export.formats import openvino
from yolodet.detector.options import formats
from yolodet.detector.options.formats import FORMATS, ExportError, format_of, missing_packages

BEST = "runs/train/weights/best.safetensors"
needs_openvino = pytest.mark.skipif(
    bool(missing_packages(FORMATS["openvino"])), reason="needs openvino"
)
THEIRS = {
    "description": "Ultralytics YOLO model", "author": "Ultralytics", "version": "8.4.190",
    "license": "AGPL-3.0 License", "stride": 32, "task": "detect", "batch": 1, "imgsz": [96, 96],
    "names": dict(enumerate(CLASS_NAMES)), "channels": 3, "end2end": False,
    "args": {"batch": 1, "half": False, "int8": False, "dynamic": False, "nms": False},
}  # fmt: skip
"""metadata.yaml of theirs."""
IR = """<net><layers><layer id="0" type="Result"><input><port id="0">
<dim>1</dim><dim>{}</dim><dim>{}</dim></port></input></layer></layers></net>"""


def test_a_folder_is_known_by_its_name_and_holds_one_file(tmp_path: Path) -> None:
    row = FORMATS["openvino"]
    folder = tmp_path / "best_openvino_model"
    assert format_of(f"{folder}/") is row is format_of("best.xml")
    folder.mkdir()
    with pytest.raises(ExportError, match=r"expected one \.xml in this folder, not 0"):
        row.main_file(folder)
    (folder / "best.xml").write_text("")
    assert row.main_file(folder) == folder / "best.xml" == row.main_file(folder / "best.xml")
    assert row.files(folder) == [folder]


@pytest.mark.parametrize(
    ("changes", "shape", "said"),
    [
        ({"task": "segment"}, (7, 189), "task=segment: det only detects"),
        ({"channels": 1}, (7, 189), "only detects objects in RGB"),
        ({"names": {1: "a", 2: "b"}}, (7, 189), "names are not numbered from 0"),
        ({}, (8, 189), r"output has the shape \[1, 8, 189\]; det reads \[B,7,A\]"),
        ({"stride": "many"}, (7, 189), "stride"),
        ({"imgsz": [96, 99]}, (7, 189), "not made of multiples of 32"),
    ],
)
def test_a_folder_of_theirs_that_det_cannot_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], shape, said: str
) -> None:
    monkeypatch.setattr(formats, "missing_packages", lambda row, to_run=False: [])
    folder = tmp_path / "their_openvino_model"
    folder.mkdir()
    (folder / "m.xml").write_text(IR.format(*shape))
    (folder / "metadata.yaml").write_text(yaml.safe_dump({**THEIRS, **changes}))
    with pytest.raises(ExportError, match=said):
        about_file(folder)


def test_metadata_of_theirs_say_what_det_must_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "missing_packages", lambda row, to_run=False: [])
    folder = tmp_path / "their_openvino_model"
    folder.mkdir()
    (folder / "metadata.yaml").write_text(yaml.safe_dump(THEIRS))
    (folder / "m.xml").write_text(IR.format(7, 189))
    about = about_file(folder)
    assert about.names == CLASS_NAMES and about.image_size == (96, 96) and not about.finished
    assert about.license == "AGPL-3.0" and about.meta.class_names == CLASS_NAMES
    (folder / "m.xml").write_text(IR.format(300, 6))
    assert about_file(folder).finished and about_file(folder).max_det == 300
    (folder / "metadata.yaml").unlink()
    with pytest.raises(ExportError, match="was not written by det export"):
        about_file(folder)


@needs_openvino
def test_the_folder_is_written_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path, monkeypatch)
    write_data(tmp_path)
    words = {"conf": 0.2, "device": "cpu", "verbose": False}
    model = YOLO(BEST)
    mine = model.predict("images/0.png", **words)[0].boxes.numpy()
    written = model.export(format="openvino", imgsz=96, verbose=False)
    folder = Path("runs/train/weights/best_openvino_model")
    assert Path(written) == folder.absolute() or Path(written) == folder
    assert sorted(p.name for p in folder.iterdir()) == ["best.bin", "best.xml", "metadata.yaml"]
    about = yaml.safe_load((folder / "metadata.yaml").read_text())
    assert about["names"] == dict(enumerate(CLASS_NAMES)) and about["task"] == "detect"
    assert (about["stride"], about["imgsz"], about["batch"]) == (32, [96, 96], 1)
    for place in (f"{folder}/", folder / "best.xml"):
        found = YOLO(str(place)).predict("images/0.png", **words)[0].boxes.numpy()
        np.testing.assert_allclose(found.xyxy, mine.xyxy, atol=1e-2)
    values = ["data=data.yaml", "plots=False", "workers=0", "device=cpu"]
    assert main(["val", f"model={folder}", *values]) == 0
    again = model.export(format="openvino", imgsz=96, verbose=False)
    assert Path(again) == Path(written), "an export of det is replaced"
    inside = folder / "best.bin"
    content = inside.read_bytes()
    inside.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert main(["predict", f"model={folder}", "source=images/0.png", "save=False"]) == 1
    (tmp_path / "other_openvino_model").mkdir()
    (tmp_path / "other_openvino_model" / "notes.txt").write_text("mine")
    with pytest.raises(Exception, match="was not written by det export"):
        model.export(format="openvino", output="other_openvino_model", verbose=False)
    assert (tmp_path / "other_openvino_model" / "notes.txt").read_text() == "mine"
    model.export(format="openvino", output="pair.xml", imgsz=96, verbose=False)
    assert Path("pair.bin").is_file() and Path("pair.xml").is_file()


@needs_onnx
def test_an_onnx_file_of_theirs_gives_the_same_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their file: one output ``output0`` and their metadata alone."""
    import onnx

    make_run(tmp_path, monkeypatch)
    write_data(tmp_path)
    model = YOLO(BEST)
    path = Path(str(Path(model.export(raw="output0", nms=True, imgsz=96, verbose=False))))
    proto = onnx.load(path)
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {key: str(value) for key, value in THEIRS.items()})
    onnx.save(proto, "theirs.onnx")
    words = {"conf": 0.2, "device": "cpu", "verbose": False}
    mine = model.predict("images/0.png", nms=True, **words)[0].boxes.numpy()
    found = YOLO("theirs.onnx").predict("images/0.png", **words)[0].boxes.numpy()
    assert len(mine) > 3
    np.testing.assert_allclose(found.xyxy, mine.xyxy, atol=1e-2)
    np.testing.assert_array_equal(found.cls, mine.cls)
    assert main(["val", "model=theirs.onnx", "data=data.yaml", "plots=False", "workers=0"]) == 0


@needs_openvino
def test_an_openvino_folder_of_theirs_gives_the_same_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path, monkeypatch)
    write_data(tmp_path)
    model = YOLO(BEST)
    model.export(format="openvino", raw="output0", nms=True, imgsz=96, verbose=False)
    folder = Path("yolo26n_openvino_model")
    shutil.copytree("runs/train/weights/best_openvino_model", folder)
    xml = folder / "best.xml"
    start, _, rest = xml.read_text().partition("<det>")
    xml.write_text(start + rest.partition("</det>")[2])
    assert openvino.read_about(xml) == {}
    (folder / "metadata.yaml").write_text(yaml.safe_dump(THEIRS))
    words = {"conf": 0.2, "device": "cpu", "verbose": False}
    mine = model.predict("images/0.png", nms=True, **words)[0].boxes.numpy()
    found = YOLO(f"{folder}/").predict("images/0.png", **words)[0].boxes.numpy()
    assert len(mine) > 3
    np.testing.assert_allclose(found.xyxy, mine.xyxy, atol=1e-2)
    (folder / "metadata.yaml").write_text(yaml.safe_dump({**THEIRS, "names": {0: "a"}}))
    with pytest.raises(ExportError, match="its output has the shape"):
        YOLO(f"{folder}/").predict("images/0.png", **words)
