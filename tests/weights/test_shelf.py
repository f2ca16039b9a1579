"""``det weights`` and ``det info`` on files: what is printed, how fast, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from foreign_files import renamed
from rows import each
from tiny import train, use_tiny_detector, write_tiny_data
from widths import build_wide
from yolodet.cli import main
from yolodet.detector.models.build import build
from yolodet.detector.run.folder import BEST, LAST
from yolodet.weights.checkpoint import Meta, load_weights, save_weights
from yolodet.weights.noted import note, read_notes
from yolodet.weights.zoo import ZOO


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and caches elsewhere."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(scope="module")
def five_megabytes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("best") / "best.safetensors"
    model = build("yolo26n", 4).half()
    meta = Meta("yolo26n", ("a", "b", "c", "d"), 640, model.strides, "bf16", license="MIT")
    save_weights(path, model.state_dict(), meta)
    assert 4e6 < path.stat().st_size < 6e6
    return path


def printed(capsys: pytest.CaptureFixture[str], *typed: str) -> dict:
    assert main([*typed, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["result"]


def refused(capsys: pytest.CaptureFixture[str], *typed: str, code: int = 2) -> str:
    assert main(list(typed)) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


@pytest.mark.parametrize("command", ["info", "weights info"])
def test_a_look_into_a_checkpoint_takes_no_large_package(
    five_megabytes: Path, command: str
) -> None:
    """Nor the network's; benchmarks/startup.py says how long it takes."""
    code = (
        "import sys; from yolodet.cli import main; "
        f"main({[*command.split(), str(five_megabytes)]!r}); "
        "heavy = {'torch', 'numpy', 'cv2', 'safetensors', 'http.client'} & set(sys.modules); "
        "sys.exit(' '.join(heavy) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "license: MIT" in run.stdout and "checksum: correct" in run.stdout


def test_everything_about_a_checkpoint_is_there(five_megabytes: Path, capsys) -> None:
    found = printed(capsys, "weights", "info", str(five_megabytes))
    model = build("yolo26n", 4)
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["tensors"] == len(model.state_dict())
    assert found["dtypes"] == ["F16", "I64"] and found["class_names"] == ["a", "b", "c", "d"]
    assert found["bytes"] == five_megabytes.stat().st_size and "notice" not in found


def test_damage_is_seen_without_torch(five_megabytes: Path, folder: Path, capsys) -> None:
    data = bytearray(five_megabytes.read_bytes())
    data[-1000] ^= 1
    (folder / "flipped.safetensors").write_bytes(data)
    found = printed(capsys, "weights", "info", "flipped.safetensors")
    assert found["checksum"].startswith("WRONG")
    data[-1000] ^= 1
    place = data.index(b'\\"a\\"')
    data[place + 2] ^= 3  # the name of a class
    (folder / "renamed.safetensors").write_bytes(data)
    said = refused(capsys, "weights", "info", "renamed.safetensors", code=1)
    assert "header does not match its checksum" in said
    (folder / "cut.safetensors").write_bytes(five_megabytes.read_bytes()[:5000])
    assert "damaged" in refused(capsys, "info", "cut.safetensors", code=1)


def test_a_run_under_way_is_described(tmp_path, monkeypatch, capsys) -> None:
    use_tiny_detector(monkeypatch)
    results = train(write_tiny_data(tmp_path / "data"), tmp_path / "runs", epochs=1)
    folder = Path(results["folder"])
    found = printed(capsys, "info", str(folder / LAST))
    assert found["kind"].startswith("training state") and found["position"]["epoch"] == 1
    best = printed(capsys, "info", str(folder / BEST))
    assert (best["kind"], best["parameters"]) == ("weights", found["parameters"])
    said = refused(capsys, "train", f"model={folder / LAST}", "data=shapes.yaml")
    assert f"resume={folder / LAST}" in said and f"model={folder / BEST}" in said


def test_the_list_is_a_table(capsys) -> None:
    assert main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["name", "task", "imgsz", "AP"]
    assert [line.split()[0] for line in lines[1 : len(ZOO) + 1]] == list(ZOO)
    listed = printed(capsys, "weights", "list")["weights"]
    assert {row["name"]: row["license"] for row in listed}["yolov9s"] == "MIT"
    assert all(row["license_text"].startswith("https://github.com/") for row in listed)
    assert not any("ms" in row or row["ap_here"] for row in listed)
    assert printed(capsys, "weights", "info", "yolov9s")["downloaded"] is False


def test_models_are_timed_once_and_the_ap_found_here_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """bench=True measures; equal hardware and torch are not measured again."""
    from yolodet.detector.commands import weights
    from yolodet.detector.examine import zoo_speed

    monkeypatch.setenv("DET_WEIGHTS", str(folder / "shelf"))
    monkeypatch.setattr(weights, "ZOO", {"yolox_nano": replace(ZOO["yolox_nano"], image_size=64)})
    note("yolox_nano", "ap", {"ap": 0.3435, "images": 128})
    (row,) = printed(capsys, "weights", "list", "bench=True")["weights"]
    assert row["ms"] > 0 and row["ap_here"] == {"ap": 0.3435, "images": 128}
    monkeypatch.setattr(zoo_speed, "build", None)
    assert main(["weights", "list", "bench=True"]) == 0
    heads, line, unit, *_ = capsys.readouterr().out.splitlines()
    assert "34.4 (128)" in line and f"{row['ms']:.1f}" in line.split()
    assert "GFLOPs  ms" in heads and "without NMS on" in unit
    (folder / "shelf" / "measured.json").write_text("[")
    assert read_notes() == {}


def test_published_costs_are_those_of_the_models() -> None:
    """Within 4 %: publishers count in different ways."""
    for name in ("yolox_nano", "yolox_tiny"):
        found = build(name, 80).describe(ZOO[name].image_size)
        assert found["gflops"] == pytest.approx(ZOO[name].gflops, rel=0.04)
        assert found["parameters"] / 1e6 == pytest.approx(ZOO[name].parameters, rel=0.01)


def test_a_foreign_file_becomes_one_of_ours(folder: Path, capsys) -> None:
    torch.manual_seed(0)
    theirs = build_wide("yolov8n", 3, 80)
    torch.save(renamed(theirs), "theirs.pt")
    about = printed(capsys, "info", "theirs.pt")
    assert (about["model"], about["num_classes"]) == ("yolov8n", 3)
    assert main(["weights", "convert", "theirs.pt", "ours.safetensors"]) == 0
    out, err = capsys.readouterr()
    assert "written: ours.safetensors" in out
    assert "WARNING: theirs.pt is under AGPL-3.0" in " ".join(err.split())
    tensors, meta = load_weights(folder / "ours.safetensors")
    assert meta.architecture.widths["head.one_to_many.classes.0.1.conv"] == (80, 80, 1)
    assert meta.license == "AGPL-3.0"
    assert all(torch.equal(tensors[key], value) for key, value in theirs.state_dict().items())
    assert "exists: choose another name" in refused(
        capsys, "weights", "convert", "theirs.pt", "ours.safetensors"
    )


@each(
    ("typed", "said"),
    [
        ("weights info", "missing argument: det weights info FILE"),
        ("weights download", "missing argument: det weights download NAME"),
        ("weights convert", "missing argument: det weights convert IN.pt OUT.safetensors"),
        ("weights convert a.pt", "missing argument"),
        ("weights convert a.pt b.safetensors", "a.pt does not exist"),
        ("weights convert here.txt b.safetensors", "expected a file that ends in .pt"),
        ("weights convert here.pt b.onnx", "expected a name that ends in .safetensors"),
        ("weights convert here.pt b.safetensors c.safetensors", "out is given twice"),
        ("weights download yolov9", "did you mean yolov9t or yolov9s?"),
        ("weights download yolo26n", "no pretrained weights of yolo26n exist"),
        ("weights info yolo26n", "det info yolo26n describes the model"),
        ("weights info nope.safetensors", "no such file"),
        ("weights info here.txt", "expected a .safetensors checkpoint of det, or a .pt or .pth"),
        ("weights fetch", "unknown command 'det weights fetch'"),
    ],
)
def test_wrong_commands_are_refused_in_one_line(folder: Path, capsys, typed, said) -> None:
    (folder / "here.pt").write_bytes(b"")
    (folder / "here.txt").write_text("text")
    before = sorted(folder.iterdir())
    assert said in refused(capsys, *typed.split())
    assert sorted(folder.iterdir()) == before


def test_a_malicious_file_is_refused_by_name(folder: Path, capsys) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return print, ("executed",)

    torch.save({"model": Evil()}, "evil.pt")
    for typed in ("info evil.pt", "weights info evil.pt", "weights convert evil.pt x.safetensors"):
        said = refused(capsys, *typed.split(), code=1)
        assert "it asks to call" in said and "print" in said and "Nothing was run" in said
    assert not (folder / "x.safetensors").exists()
