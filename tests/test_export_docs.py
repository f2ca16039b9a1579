"""The programs in docs/export.md run as they stand, and say what det predict says."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from exports import lively_detector, make_image, run_export
from yolodet.detector.export.formats import FORMATS
from yolodet.detector.predict.predictor import Predictor
from yolodet.detector.predict.sources import open_source

PAGE = (Path(__file__).parent.parent / "docs" / "export.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
PREPARE = BLOCKS[0]
CONSUMERS = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "tflite": "ai_edge_litert",
    "torchscript": "torch",
}
LONGEST = 10


def program(package: str) -> str:
    """The block that imports a runtime."""
    imports = re.compile(rf"^(import|from) .*\b{package}\b", re.MULTILINE)
    (found,) = [block for block in BLOCKS if imports.search(block)]
    return found


@pytest.mark.parametrize("name", CONSUMERS)
def test_the_programs_run_and_find_what_det_predict_finds(name: str, tmp_path: Path) -> None:
    for package in {CONSUMERS[name], *FORMATS[name].packages}:
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    code = program(CONSUMERS[name])
    assert sum(bool(line) for line in code.splitlines()) <= LONGEST
    run_export(tmp_path, format=name, imgsz="64,96")
    cv2.imwrite(str(tmp_path / "image.png"), make_image((50, 90), 3))
    (tmp_path / "prepare.py").write_text(PREPARE)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    said = [re.fullmatch(r"(.*) (\d\.\d+) \[(.*)\]", line) for line in done.stdout.splitlines()]
    wanted = predicted(tmp_path / "image.png")
    assert len(said) == len(wanted) > 3
    for line, (label, score, box) in zip(said, wanted, strict=True):
        assert line is not None and line[1] == label
        assert float(line[2]) == pytest.approx(score, abs=2e-3)
        inside = np.clip([float(x) for x in line[3].split(",")], 0, [90, 50, 90, 50])
        assert np.allclose(inside, box, atol=0.4)


def predicted(image: Path) -> list[tuple[str, float, np.ndarray]]:
    names = ("clock", "kite", "bus & tram")
    predictor = Predictor(
        lively_detector(), names, image_size=(64, 96), device="cpu", nms=False, conf=0.25, iou=0.7,
        max_det=300, agnostic_nms=False,
    )  # fmt: skip
    (result,) = predictor.stream(open_source(str(image)))
    rows = zip(result.labels, result.scores, result.boxes, strict=True)
    return [(names[label], float(score), box) for label, score, box in rows]


def test_the_table_of_formats_is_that_of_the_code() -> None:
    table = PAGE.split("| `format=` |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    expected = [
        [
            f"`{row.name}`", f"`best{row.suffix}`", row.runtime,
            f"`{row.extra}`" if row.extra else "none", ", ".join(row.half_on) or "-",
            "yes" if row.dynamic else "-", "yes" if row.run_here else "not run here",
        ]
        for row in FORMATS.values()
    ]  # fmt: skip
    assert rows == expected


def test_extras_install_what_formats_need() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    for row in FORMATS.values():
        there = " ".join(extras[row.extra]).replace("-", "_") if row.extra else ""
        assert all(package in there for package in row.packages), row.name
