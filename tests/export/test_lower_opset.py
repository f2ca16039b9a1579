"""Operator sets 12 to 17: the same numbers as in 18, and what has no older form is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import lively_detector, make_run, needs_onnx, refused, run_export
from yolodet.detector.export.formats import onnx as writer
from yolodet.detector.export.formats.interface import Settings
from yolodet.detector.export.formats.lower_opset import lower
from yolodet.detector.export.graph import ExportGraph, Shape
from yolodet.detector.options.formats import ExportError

pytestmark = needs_onnx


@pytest.mark.parametrize("words", [{}, {"nms": True}, {"raw": "output0"}], ids=str)
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
def test_older_sets_compute_the_same(tmp_path: Path, words: dict[str, Any], dynamic: bool) -> None:
    import onnx
    import onnxruntime as ort

    path = tmp_path / "a.onnx"
    size = (256, 256) if dynamic else (96, 96)
    writer.write(
        ExportGraph(lively_detector(), **words), path, Settings(Shape(size, 1, dynamic)), {}
    )
    images = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    content = onnx.load(path)
    (wanted,) = ort.InferenceSession(path.read_bytes(), options).run(None, {"images": images})
    for opset in range(12, 18):
        model = copy.deepcopy(content)
        lower(model, opset)
        onnx.checker.check_model(model, full_check=True)
        assert [entry.version for entry in model.opset_import if not entry.domain] == [opset]
        (found,) = ort.InferenceSession(model.SerializeToString(), options).run(
            None, {"images": images}
        )
        np.testing.assert_array_equal(found, wanted)


def test_the_option_writes_it_and_the_file_is_proven(tmp_path: Path, capsys, monkeypatch) -> None:
    import onnx

    (entry,) = run_export(tmp_path, opset=12)["exports"]
    assert entry["passed"] and onnx.load(entry["file"]).opset_import[0].version == 12
    make_run(tmp_path, monkeypatch)
    assert "int8= needs operator set 13" in refused(capsys, "opset=12", "int8=weights")
    assert "opset" in refused(capsys, "opset=11")


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes"),
    [
        ("Unsqueeze", ["x", "made"], {}),
        ("Softmax", ["x"], {"axis": 1}),
        ("Resize", ["x", "", "s"], {"antialias": 1}),
        ("Pad", ["x", "p", "", "a"], {}),
    ],
)
def test_what_has_no_older_form_is_refused(kind: str, inputs: list[str], attributes) -> None:
    from onnx import helper

    node = helper.make_node(kind, inputs, ["y"], **attributes)
    graph = helper.make_graph([node], "g", [], [])
    with pytest.raises(ExportError, match=f"of the operator {kind} cannot be written"):
        lower(helper.make_model(graph), 12)
