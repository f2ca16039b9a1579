"""The programs in docs/export.md run as they stand, and say what det predict says."""

from __future__ import annotations

import ast
import copy
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from exports import lively_detector, make_image, needs_onnx, run_export
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.detector_like import ForwardOptions
from yolodet.detector.options.detect import DetectOptions
from yolodet.detector.options.formats import FORMATS
from yolodet.detector.predict.predictor import Predictor
from yolodet.detector.predict.sources import open_source

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
PREPARE = BLOCKS[0]
CONSUMERS = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "tflite": "ai_edge_litert",
    "torchscript": "torch",
}
LONGEST = 10
(CPP,) = re.findall(r"^```cpp\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
(COMPILE,) = re.findall(r"^g\+\+ .*$", PAGE, re.MULTILINE)
LONGEST_CPP = 35
HEADER, LIBRARY = "onnxruntime_cxx_api.h", "libonnxruntime.so"


def program(package: str) -> str:
    """The block that imports a runtime."""
    imports = re.compile(rf"^(import|from) .*\b{package}\b", re.MULTILINE)
    (found,) = [block for block in BLOCKS if imports.search(block)]
    return found


@pytest.mark.parametrize("align", ["center", "top-left"])
@pytest.mark.parametrize("name", CONSUMERS)
def test_the_programs_run_and_find_what_det_predict_finds(
    name: str, align: str, tmp_path: Path
) -> None:
    for package in {CONSUMERS[name], *FORMATS[name].packages}:
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    code = program(CONSUMERS[name])
    assert sum(bool(line) for line in code.splitlines()) <= LONGEST
    model = copy.deepcopy(lively_detector())
    model.letterbox = align
    run_export(tmp_path, model, format=name, imgsz="64,96")
    cv2.imwrite(str(tmp_path / "image.png"), make_image((50, 90), 3))
    (tmp_path / "prepare.py").write_text(PREPARE)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    said = [re.fullmatch(r"(.*) (\d\.\d+) \[(.*)\]", line) for line in done.stdout.splitlines()]
    wanted = predicted(model, tmp_path / "image.png")
    assert len(said) == len(wanted) > 3
    for line, (label, score, box) in zip(said, wanted, strict=True):
        assert line is not None and line[1] == label
        assert float(line[2]) == pytest.approx(score, abs=2e-3)
        inside = np.clip([float(x) for x in line[3].split(",")], 0, [90, 50, 90, 50])
        assert np.allclose(inside, box, atol=0.4)


@needs_onnx
def test_the_program_in_cpp_compiles_and_finds_what_python_finds(tmp_path: Path) -> None:
    release = unpacked_release(tmp_path / "a release")
    assert sum(bool(line) for line in CPP.splitlines()) <= LONGEST_CPP
    run_export(tmp_path, format="onnx", imgsz="64,96")
    image = make_image((64, 96), 3)
    cv2.imwrite(str(tmp_path / "image.ppm"), image)
    (tmp_path / "detect.cpp").write_text(CPP)
    environment = {**os.environ, "ORT": str(release)}
    command = f"{COMPILE} -Wall -Wextra && ./detect best.onnx image.ppm"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = [line.rsplit(" ", 5) for line in done.stdout.splitlines()]
    wanted = found_in_python(tmp_path / "best.onnx", image)
    assert [name for name, *_ in said] == [name for name, _ in wanted] and len(said) > 3
    numbers = np.array([[float(x) for x in row] for _, *row in said])
    assert np.allclose(numbers, [row for _, row in wanted], rtol=0, atol=1e-3)


def unpacked_release(folder: Path) -> Path:
    """``folder`` with include/ and lib/ of ONNX Runtime, as in the archives of its releases.

    $ONNXRUNTIME_INCLUDE and $ONNXRUNTIME_LIBRARY (a file) say where both are, or else pkg-config.
    With headers alone the library is the one inside the Python package.
    """
    import onnxruntime

    include = os.environ.get("ONNXRUNTIME_INCLUDE", "")
    libraries = [os.environ.get("ONNXRUNTIME_LIBRARY", "")]
    if not include:
        include = of_the_system("includedir")
        libraries.append(f"{of_the_system('libdir')}/{LIBRARY}")
    libraries += [str(path) for path in Path(onnxruntime.__file__).parent.rglob(f"{LIBRARY}*")]
    headers = next(iter(sorted(Path(include or folder).rglob(HEADER))), None)
    library = next((path for path in libraries if Path(path).is_file()), None)
    there = {"g++": shutil.which("g++"), HEADER: headers, LIBRARY: library}
    if headers is None or library is None or None in there.values():
        pytest.skip(f"needs {', '.join(name for name in there if there[name] is None)}")
    (folder / "lib").mkdir(parents=True)
    (folder / "include").symlink_to(headers.parent.resolve())
    for name in (LIBRARY, f"{LIBRARY}.1"):
        (folder / "lib" / name).symlink_to(Path(library).resolve())
    return folder


def of_the_system(variable: str) -> str:
    """What pkg-config says of ONNX Runtime; nothing where it knows of none."""
    if shutil.which("pkg-config") is None:
        return ""
    command = ["pkg-config", f"--variable={variable}", "libonnxruntime"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def found_in_python(file: Path, image: np.ndarray) -> list[tuple[str, list[float]]]:
    """Name and (score, x1, y1, x2, y2) of each detection from 0.25 on, in pixels of the input."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    names = ast.literal_eval(session.get_modelmeta().custom_metadata_map["names"])
    images = image[None, :, :, ::-1].transpose(0, 3, 1, 2).astype(np.float32) / 255
    rows = session.run(None, {"images": images})[0][0]
    return [(names[int(r[5])], [r[4], *r[:4]]) for r in rows if r[4] >= 0.25]


def predicted(model: Detector, image: Path) -> list[tuple[str, float, np.ndarray]]:
    names = ("clock", "kite", "bus & tram")
    predictor = Predictor(
        model, names, (64, 96), DetectOptions(conf=0.25), ForwardOptions(torch.device("cpu"))
    )
    (result,) = predictor.stream(open_source(str(image)))
    boxes = result.boxes.numpy()
    rows = zip(boxes.cls.astype(int), boxes.conf, boxes.xyxy, strict=True)
    return [(names[label], float(score), box) for label, score, box in rows]


def test_the_table_of_formats_is_that_of_the_code() -> None:
    table = PAGE.split("| `format=` |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    expected = [
        [
            f"`{row.name}`", f"`best{f'{row.folder}/' if row.folder else row.suffix}`", row.runtime,
            f"`{row.extra}`" if row.extra else "none", ", ".join(row.half_on) or "-",
            "yes" if row.dynamic else "-", "yes" if row.run_here else "not run here",
        ]
        for row in FORMATS.values()
    ]  # fmt: skip
    assert rows == expected


def test_extras_install_what_formats_need() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    for row in FORMATS.values():
        named = " ".join(extras[row.extra]) if row.extra else ""
        there = named.replace("yolodet[export]", " ".join(extras["export"])).replace("-", "_")
        assert all(package in there for package in row.packages), row.name
