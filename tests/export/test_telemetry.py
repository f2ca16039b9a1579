"""Nothing is reported to anybody, by det or by the packages that it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from exports import needs_onnx
from yolodet.detector.export.formats import openvino
from yolodet.files.telemetry import OFF

SESSION = """
import yolodet
import onnxruntime, onnx
from onnx import TensorProto, helper
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value("x")], [value("y")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
"""


def run(program: str, **environment: str) -> str:
    """What a program prints, in an environment in which nothing of this is set."""
    clean = {name: text for name, text in os.environ.items() if name not in OFF}
    words = [sys.executable, "-c", program]
    return subprocess.run(
        words, env=clean | environment, capture_output=True, text=True, check=True
    ).stdout


@needs_onnx
def test_onnx_runtime_leaves_no_identifier_of_this_machine(tmp_path: Path) -> None:
    """It keeps one, and what is to be sent, in the home folder."""
    run(SESSION, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert [path.name for path in tmp_path.rglob("*") if "icrosoft" in path.name] == []


def test_packages_are_told_and_the_word_of_the_user_stays() -> None:
    shown = f"import os, yolodet; print([os.environ[name] for name in {list(OFF)}])"
    assert run(shown).strip() == str(list(OFF.values()))
    assert run(shown, ORT_DISABLE_TELEMETRY="0").strip().startswith("['0', ")


def test_the_converter_of_openvino_finds_no_package_that_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []

    def convert_model(source: Path) -> ModuleType:
        with pytest.raises(ImportError):
            __import__(openvino.REPORTS)
        found.append(source)
        return model

    model, package = ModuleType("model"), ModuleType("openvino")
    package.convert_model = convert_model
    package.save_model = lambda *_, **__: None
    monkeypatch.setitem(sys.modules, "openvino", package)
    monkeypatch.delitem(sys.modules, openvino.REPORTS, raising=False)
    openvino.convert(tmp_path / "a.onnx", tmp_path / "a.xml", {})
    assert found == [tmp_path / "a.onnx"]
