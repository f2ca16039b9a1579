"""A folder of hostile and damaged files: every command passes through it, with findings, without a
hang, and without their bytes on the terminal."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from hostile import SOUND, write_hostile
from yolodet.cli import main

pytestmark = pytest.mark.usefixtures("tiny_models")
EXPECTED = {
    "image-not-a-file", "image-missing", "image-unreadable", "image-damaged", "image-left-out",
    "label-columns", "label-encoding", "label-too-large", "label-unreadable",
    "file-suffix", "label-not-finite",
}  # fmt: skip
"""What the doctor must find."""


@pytest.fixture
def data(place: Path) -> Path:
    return write_hostile(place / "here" / "set")


def peak() -> int:
    """The largest memory of this process until now, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_every_command_passes_through_a_hostile_folder(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = peak()
    assert main(["data", "check", f"data={data}", "deep=True", "json=True", "allow=errors"]) == 1
    report = json.loads(capsys.readouterr().out)["result"]
    found = {group["id"] for group in report["groups"]}
    assert found >= EXPECTED, EXPECTED - found
    assert report["splits"]["train"]["usable"] == SOUND + 3  # dark.png has a row too
    assert all(len(e) < 2000 for group in report["groups"] for e in group["examples"])
    common = [f"data={data}", "imgsz=64", "device=cpu", "workers=0", "plots=False"]
    words = ["epochs=1", "batch=4", "amp=False", "threads=1", "allow=errors"]
    assert main(["train", *common, *words]) == 0
    told = capsys.readouterr()
    results = json.loads(Path("runs/train/results.json").read_text())
    assert sorted(Path(line.partition(": ")[0]).name for line in results["lost_images"]) == [
        "half.jpg", "half.jpg", "middle.png", "middle.png",
    ]  # fmt: skip
    assert "skipped from now on" in told.err
    assert main(["val", *common, "allow=errors"]) == 0
    assert "half.jpg" in capsys.readouterr().err
    code = main(["predict", f"source={data.parent / 'images/val'}", "device=cpu", "imgsz=64"])
    told = capsys.readouterr()
    assert code in (0, 1) and "phone.heic" in told.err
    assert main(["export", "format=torchscript", f"data={data}", "allow=errors"]) in (0, 1)
    assert "bug in det" not in capsys.readouterr().err
    assert peak() - before < 1.5e9
