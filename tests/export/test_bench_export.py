"""``det bench export``: what it writes, how its numbers are made, and what is refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from exports import needs_onnx, save_checkpoint, write_data
from rows import each
from tiny import use_tiny_detector
from yolodet.cli import main
from yolodet.detector.examine.export_bench import as_markdown, baseline_of, summarize
from yolodet.detector.examine.export_plots import plot_bench_export
from yolodet.detector.export import targets as kinds
from yolodet.detector.export.formats import onnx
from yolodet.detector.export.proof.speed import WARM_UP, parallel_calls, run_interleaved
from yolodet.detector.export.targets import choose, name_of
from yolodet.detector.options.errors import UsageError


@needs_onnx
def test_the_bench_leaves_a_table_a_page_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    use_tiny_detector(monkeypatch)
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path)
    words = ["formats=onnx,onnx-int8-weights,torchscript", "rounds=3", "runs=2", "batch=2"]
    assert main(["bench", "export", "best.safetensors", *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    folder = tmp_path / "runs" / "bench_export"
    assert {path.name for path in folder.iterdir()} >= {
        "bench_export.json", "bench_export.md", "bench_export.png", "args.yaml", "log.txt",
        "best.onnx", "best-int8-weights.onnx", "best.torchscript",
    }  # fmt: skip
    assert Path(result["folder"]).resolve() == folder
    rows = {row["name"]: row for row in result["results"]}
    assert list(rows) == ["onnx", "onnx-int8-weights", "torchscript"]
    assert result["base"] == "onnx" and rows["onnx"]["size"] == 1
    for name, row in rows.items():
        assert row["passed"] and row["load_s"] > 0 and row["ap"] is None
        assert row["bytes"] == Path(row["file"]).stat().st_size
        for where in ("one", "all", "side_by_side"):
            speed = row[where]
            assert speed["p50_ms"] <= speed["p95_ms"] and len(speed["rounds"]) == 3
            low, high = speed["spread"]
            assert low <= speed["speedup"] <= high
            assert name != "onnx" or low == high == 1
    assert cv2.imread(str(folder / "bench_export.png")).shape[1] > 1000
    page = (folder / "bench_export.md").read_text()
    assert page.count("\n| ") == 5 and result["line"] in page


def test_rounds_are_interleaved_forwards_and_backwards() -> None:
    asked: list[str] = []

    def runner(name: str):
        return lambda images: asked.append(name) or []

    images = [np.zeros(1)]
    names = ("a", "b", "c")
    seconds = run_interleaved({n: runner(n) for n in names}, dict.fromkeys(names, images), 2, 3)
    once = WARM_UP + 3
    expected = [n for n in "abccba" for _ in range(once)]
    assert asked == expected
    assert all([len(turn) for turn in seconds[name]] == [3, 3] for name in names)


def test_calls_side_by_side_run_at_once_with_one_thread_of_torch() -> None:
    before = torch.get_num_threads()
    meet = threading.Barrier(3)
    seen: list[tuple[int, int]] = []

    def runner(images: np.ndarray) -> list[np.ndarray]:
        meet.wait(120)  # breaks where they come one after another
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return [images + 1]

    with parallel_calls({"a": [runner] * 3, "b": [lambda images: [images]]}) as together:
        assert together["a"](np.ones(2))[0].tolist() == [2, 2]
        assert together["b"](np.ones(2))[0].tolist() == [1, 1]
    assert len({thread for thread, _ in seen}) == 3 and {count for _, count in seen} == {1}
    assert torch.get_num_threads() == before


def test_numbers_are_those_of_the_rounds() -> None:
    base = [[0.010, 0.010, 0.010], [0.020, 0.020, 0.020]]
    mine = [[0.005, 0.004, 0.006], [0.020, 0.005, 0.005]]
    found = summarize(mine, base, batch=4)
    assert found["speedup"] == pytest.approx(3) and found["spread"] == pytest.approx((2, 4))
    assert found["images_per_s"] == pytest.approx(800)
    assert found["p50_ms"] == pytest.approx(5) and found["p95_ms"] == pytest.approx(20)


def test_all_that_is_installed_is_measured_and_the_rest_explained(monkeypatch) -> None:
    monkeypatch.setattr(kinds, "missing_packages", lambda row: ["pack"] * (row.name == "openvino"))
    chosen, without = choose(None, data=False)
    names = [name_of(row, precision) for row, precision in chosen]
    assert names[:3] == ["onnx", "onnx-fp16", "onnx-int8-weights"] and "torchscript" in names
    assert without["onnx-int8"] == "int8 is calibrated with images: name the data with data="
    assert without["openvino"] == "pack is not installed: pip install 'yolodet[openvino]'"
    assert without["tensorrt"] == "det does not run it on a CPU"
    assert "torchscript-fp16" not in without, "no such file"
    with_data = [name_of(*pair) for pair in choose("torchscript, onnx-int8,onnx", data=True)[0]]
    assert with_data == ["onnx", "onnx-int8", "torchscript"]
    with pytest.raises(UsageError, match="onnxx: there is no such file; known: onnx"):
        choose("onnxx", data=True)
    with pytest.raises(UsageError, match="calibrated with images: name the data"):
        choose("onnx-int8", data=False)


def test_ratios_are_to_the_file_that_is_named() -> None:
    rows = [{"name": name, "passed": True} for name in ("torchscript", "onnx", "openvino")]
    assert baseline_of(rows)["name"] == "onnx"
    rows[1]["passed"] = False
    assert baseline_of(rows)["name"] == "torchscript"
    rows[0]["passed"] = False
    assert baseline_of(rows)["name"] == "openvino"
    rows[2]["passed"] = False
    assert baseline_of(rows)["name"] == "torchscript", "of none a speed is known, but the size"


@needs_onnx
def test_where_onnx_fails_another_file_is_the_base_and_named_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    use_tiny_detector(monkeypatch)
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path)
    load = onnx.open_file

    def shifted(*asked):
        runner = load(*asked)
        return lambda images: [each + 1 for each in runner(images)]

    monkeypatch.setattr(onnx, "open_file", shifted)
    words = ["formats=onnx,torchscript", "rounds=2", "runs=1", "plots=False", "--json"]
    assert main(["bench", "export", "best.safetensors", *words]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    one, other = result["results"]
    assert (one["name"], one["passed"], result["base"]) == ("onnx", False, "torchscript")
    assert other["size"] == 1 and other["one"]["spread"] == [1, 1]


def made_up() -> dict:
    """A result with a file that failed."""
    speed = {"p50_ms": 5.0, "p95_ms": 6.0, "images_per_s": 200.0, "rounds": [180.0, 210.0],
             "speedup": 1.5, "spread": (1.4, 1.6)}  # fmt: skip
    good = {"name": "onnx", "precision": "fp32", "bytes": 9_600_000, "size": 1.0, "passed": True,
            "ap": 0.61, "checkpoint_ap": 0.61, "faults": [], "load_s": 0.1, "one": speed,
            "all": speed, "side_by_side": speed}  # fmt: skip
    bad = {"name": "onnx-int8", "precision": "int8", "bytes": 2_800_000, "size": 0.3, "ap": 0.5,
           "passed": False, "checkpoint_ap": 0.61, "faults": ["AP drops by 0.1100"]}  # fmt: skip
    return {"model": "yolo26n", "image_size": 320, "batch": 1, "hardware": "CPU", "rounds": 2,
            "runs": 5, "base": "onnx", "checkpoint_ap": 0.61, "results": [good, bad],
            "line": "fastest: onnx", "not_measured": {"tflite": "not installed"}}  # fmt: skip


def test_a_file_that_failed_is_shown_without_speed(tmp_path: Path) -> None:
    page = as_markdown(made_up())
    assert "| onnx-int8 MISMATCH | 2.80 | 0.30x | - | - |" in page
    assert "- onnx-int8 is not measured: AP drops by 0.1100" in page
    assert "- tflite: not installed" in page and "| 0.5000 | +0.1100 |" in page
    plot_bench_export(made_up(), tmp_path / "plot.png")
    assert cv2.imread(str(tmp_path / "plot.png")) is not None


@each(
    ("typed", "answer"),
    [
        ("formats=onx", "onx: there is no such file; known: "),
        ("device=0", "device=0: files are measured on the CPU; leave it out"),
        ("split=test", "split= has no effect without data="),
        ("name=a/b", "name=a/b: expected a plain folder name"),
        ("imgsz=100", "expected multiples of the stride 32, such as 96"),
        ("data=shapes.yaml", "the checkpoint has 3: use the data set that"),
        ("data=own/data.yaml fraction=0.01", "leaves none to calibrate with"),
        ("model=best.onnx", "model=best.onnx: no such file"),
        ("model=own/old.onnx", "model=own/old.onnx is exported already: name its checkpoint"),
    ],
)
def test_contradictory_options_are_refused(
    tmp_path: Path, tmp_path_factory, monkeypatch, capsys, typed: str, answer: str
) -> None:
    use_tiny_detector(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DET_CACHE", str(tmp_path_factory.mktemp("cache")))
    (tmp_path / "own").mkdir()
    write_data(tmp_path / "own")
    (tmp_path / "own" / "old.onnx").write_bytes(b"")
    save_checkpoint(tmp_path)
    model = [] if typed.startswith("model") else ["best.safetensors"]
    assert main(["bench", "export", *model, *typed.split(), "--quiet"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert answer in lines[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"best.safetensors", "own"}
