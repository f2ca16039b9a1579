"""det compress: the files, the choice, going on, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from exports import make_run, write_data
from rows import each
from yolodet.cli import main
from yolodet.detector.compress import compress as pipeline
from yolodet.detector.compress import prune
from yolodet.detector.compress.begun import Begun
from yolodet.detector.compress.check import COMPRESS
from yolodet.detector.compress.compress import fits, front
from yolodet.detector.compress.plots import plot_compression


def row(name: str, ap: float, ms: float, passed: bool = True) -> dict[str, Any]:
    return {"name": name, "ap": ap, "ms": ms, "bytes": 1000 * ms, "passed": passed, "size": 0.5}


@each(
    ("ap", "passed", "wanted"),
    [(0.5, True, True), (0.491, True, True), (0.489, True, False), (0.6, True, True),
     (0.5, False, False), (None, True, False)],
)  # fmt: skip
def test_a_file_fits_that_is_proven_and_within_the_budget(
    ap: float, passed: bool, wanted: bool
) -> None:
    base = row("fp32", 0.5, 10.0)
    assert fits(row("int8", ap, 5.0, passed), base, 0.01) is wanted
    assert fits(base, base, 0.0)


def test_the_front_has_the_files_that_no_cheaper_one_equals(tmp_path: Path) -> None:
    rows = [row("fp32", 0.60, 10.0), row("int8", 0.59, 6.0), row("qat", 0.60, 6.0),
            row("pruned", 0.55, 5.0), row("broken", 0.9, 1.0, False)]  # fmt: skip
    assert [found["name"] for found in front(rows, "ms")] == ["pruned", "qat"]
    for found in rows:
        found["best"] = [cost for cost in ("ms", "bytes") if found in front(rows, cost)]
    plot_compression(rows, "qat", 0.02, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def words_of(data: Path, project: Path, model: Path, **more: Any) -> list[str]:
    usual: dict[str, Any] = {
        "model": model, "data": data, "project": project, "imgsz": 96, "batch": 4, "epochs": 1,
        "device": "cpu", "workers": 0, "amp": False, "samples": 4, "report": False, "keep": 0.7,
        "max_drop": 1.0, "target": "torch_export", "plots": False,
    }  # fmt: skip
    return [f"{name}={value}" for name, value in {**usual, **more}.items()]


class Crash(Exception):
    """A process that is killed."""


def test_the_whole_way_ends_with_a_file_to_deploy_also_after_a_kill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is made once; what is pruned and quantized is smaller; prediction takes it."""
    weights = make_run(tmp_path, monkeypatch) / "best.safetensors"
    data = write_data(tmp_path)
    made: list[str] = []
    real = pipeline.export
    monkeypatch.setattr(
        pipeline,
        "seconds_of_files",
        lambda files, threads: {name: 1 / (1 + i) for i, name in enumerate(files)},
    )
    monkeypatch.setattr(prune, "seconds_of", lambda models, *_: dict.fromkeys(models, 1.0))

    def counted(options: Any, *arguments: Any, **words: Any) -> Any:
        if len(made) == 2 and "crashed" not in made:
            made.append("crashed")
            raise Crash
        made.append(Path(options.output).name)
        return real(options, *arguments, **words)

    monkeypatch.setattr(pipeline, "export", counted)
    assert main(["compress", *words_of(data, tmp_path, weights)]) == 1
    folder = tmp_path / "compress"
    assert len(list(folder.glob("candidate-*.json"))) == 2
    capsys.readouterr()
    assert main(["compress", f"resume={folder}", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    rows = {found["name"]: found for found in result["rows"]}
    assert list(rows) == ["fp32", "int8", "qat", "pruned", "pruned int8", "pruned qat"]
    made.remove("crashed")
    assert len(made) == len(set(made)) == len(rows)
    assert rows["pruned"]["bytes"] < rows["fp32"]["bytes"]
    assert result["chosen"] == "pruned qat" and rows["pruned qat"]["fits"]
    assert Path(result["deploy"]).read_bytes() == Path(rows["pruned qat"]["file"]).read_bytes()
    image = next((tmp_path / "images").iterdir())
    place = [f"project={tmp_path}", "--quiet"]
    assert main(["predict", str(image), f"model={result['deploy']}", *place]) == 0


def test_nothing_is_built_on_a_pruned_detector_that_lost_too_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Begun(COMPRESS, pipeline.CompressConfig(), frozenset(), tmp_path, pipeline.Log())
    whole = {**row("fp32", 0.5, 10.0), "file": "a"}
    cut = {**row("pruned", 0.4, 5.0), "file": "b"}
    assert "AP 0.4000 is below 0.4900" in str(pipeline._against(begun, whole, cut))
    monkeypatch.setattr(
        pipeline, "seconds_of_files", lambda files, threads: {"fp32": 2.0, "pruned": 2.5}
    )
    assert "it is no faster (0.80x)" in str(pipeline._against(begun, whole, {**cut, "ap": 0.5}))


def test_what_cannot_be_compressed_is_one_line_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = make_run(tmp_path, monkeypatch) / "best.safetensors"
    data = write_data(tmp_path)
    for changes, wanted in (
        ({"target": "onxx"}, "onnx"),
        ({"max_drop": 2}, "max_drop=2"),
        ({"keep": 0}, "keep=0"),
        ({"epochs": 0}, "what is pruned has to be trained"),
        ({"model": "yolo26n"}, "has not been trained"),
        ({"qat": "int8"}, "det compress has no option 'qat': it is a part of det compress"),
        ({"resume": tmp_path / "none"}, "there is no compression"),
    ):
        usual: dict[str, Any] = {"data": data, "project": tmp_path / "none", "model": weights}
        words = words_of(**{**usual, **changes})
        if "resume" in changes:
            words = [f"resume={changes['resume']}"]
        assert main(["compress", *words]) == 2, changes
        assert wanted in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "none").exists()
