"""What det export leaves where: nothing of others is written over, nothing half is left."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from exports import make_run, refused
from yolodet.cli import main
from yolodet.detector.export.export import check_place, export
from yolodet.detector.export.formats import torchscript
from yolodet.detector.options import formats
from yolodet.detector.options.errors import UsageError

SCRIPT = "format=torchscript"
"""The format that needs no package and is written fastest."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``weights`` of the only run below the current folder."""
    return make_run(tmp_path, monkeypatch)


def test_a_writer_that_breaks_leaves_nothing(run: Path, monkeypatch, capsys) -> None:
    def write(graph, path: Path, *rest) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(torchscript, "write", write)
    assert "No space left on device" in refused(capsys, SCRIPT)
    assert [path.name for path in run.iterdir()] == ["best.safetensors"]


def test_files_of_others_are_not_written_over(run: Path, capsys) -> None:
    theirs = run / "best.torchscript"
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), theirs)
    before = theirs.read_bytes()
    assert "was not written by det export: remove it, or use output=" in refused(capsys, SCRIPT)
    assert theirs.read_bytes() == before
    theirs.unlink()
    (run / "best.torchscript.json").write_text("{}")
    assert "is not a report of det export" in refused(capsys, SCRIPT)


@pytest.mark.parametrize(
    "name", ["best.torchscript.failed", "best.torchscript.failed.json", "best.torchscript.json"]
)
def test_what_a_failed_export_would_write_over_is_looked_at_too(
    name: str, run: Path, capsys
) -> None:
    (run / name).write_text("mine")
    line = refused(capsys, SCRIPT)
    assert line.startswith(f"runs/train/weights/{name} exists and ") and "remove it" in line
    assert (run / name).read_text() == "mine"


def test_a_part_of_another_file_is_not_written_over(tmp_path: Path) -> None:
    row, target = formats.FORMATS["openvino"], tmp_path / "best.xml"
    for name in ("best.bin", "best.bin.failed"):
        part = tmp_path / name
        part.write_bytes(b"mine")
        with pytest.raises(UsageError, match=f"{name} exists and was not written by det export"):
            check_place(row, target)
        part.unlink()
    for ending in ("", ".failed"):
        about = "<net><rt_info><det><det_schema value='1'/></det></rt_info></net>"
        target.with_name(f"best.xml{ending}").write_text(about)
        target.with_name(f"best.bin{ending}").write_bytes(b"ours")
    check_place(row, target)


def test_a_success_takes_away_what_had_failed(run: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        faults = property(lambda self: ["made up"])
        patch.setattr("yolodet.detector.export.proof.parity.Parity.faults", faults)
        assert main(["export", SCRIPT]) == 1
    failed = {"best.torchscript.failed", "best.torchscript.failed.json"}
    assert failed < {path.name for path in run.iterdir()}
    assert main(["export", SCRIPT]) == 0
    left = {path.name for path in run.iterdir()}
    assert left == {"best.safetensors", "best.torchscript", "best.torchscript.json"}


STOPPED = """
import os, signal, sys
import pytest
from tiny import use_tiny_detector
from yolodet.cli import main
from yolodet.detector.export.formats import torchscript
use_tiny_detector(pytest.MonkeyPatch())
before = signal.getsignal(signal.SIGTERM)
def write(graph, path, *rest):
    path.write_bytes(b"half")
    assert list(path.parents[1].glob(".best*")), "it lies in the hidden folder"
    os.kill(os.getpid(), signal.SIGTERM)
torchscript.write = write
code = main(["export", "format=torchscript"])
assert signal.getsignal(signal.SIGTERM) is before
sys.exit(code)
"""


def test_sigterm_leaves_nothing_behind(run: Path) -> None:
    folders = [str(Path(__file__).parents[1] / "rigs"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", STOPPED], capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
    )  # fmt: skip
    assert done.returncode == 143, done.stderr
    assert done.stderr.splitlines()[-1] == "det: stopped by SIGTERM"
    assert [path.name for path in run.iterdir()] == ["best.safetensors"]


def test_a_folder_that_cannot_be_written_is_reported_before_the_work(
    run: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "file").write_text("")
    line = refused(capsys, SCRIPT, f"output={tmp_path / 'file' / 'x.torchscript'}")
    assert f"make the folder {tmp_path / 'file'} first" in line
    for output in ("/proc/x.torchscript", "/proc"):
        line = refused(capsys, SCRIPT, f"output={output}")
        assert line.startswith("output=/proc: cannot write in /proc (")


def test_the_usual_folder_is_tried_before_data_are_read(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def full(prefix: str, dir: Path) -> None:
        raise PermissionError(13, "Permission denied", f"{dir}/tmpx7")

    def reached(*args: object) -> None:
        raise AssertionError("data are read")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", full)
    monkeypatch.setattr(f"{export.__module__}.examiner_for", reached)
    line = refused(capsys, SCRIPT)
    assert line == (
        f"output=runs/train/weights: cannot write in {run} (Permission denied); choose another "
        "folder"
    )
    assert [path.name for path in run.iterdir()] == ["best.safetensors"]
