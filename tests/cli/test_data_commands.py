"""``det data check`` and ``det data shapes`` from the command line."""

from __future__ import annotations

import json

import pytest
from yolodet.cli import main
from yolodet.datasets.drawn.shapes import write_shapes
from yolodet.detector.run.check import check_data


def test_shapes_are_drawn_where_told(tmp_path, capsys) -> None:
    out = tmp_path / "drawn"
    assert main(["data", "shapes", "n=3", "val=1", "imgsz=64", f"out={out}", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert (result["train"], result["val"], result["test"]) == (2, 1, 0)
    assert result["data"] == str(out / "data.yaml")
    assert len(list((out / "images").rglob("*.jpg"))) == 3
    check_data(result["data"])


@pytest.fixture
def drawn(tmp_path):
    """A small data set on disk."""
    return write_shapes(tmp_path / "drawn", train=2, val=1, size=64)


def test_data_check_of_a_sound_set_exits_with_0(drawn, capsys) -> None:
    assert main(["data", "check", str(drawn)]) == 0
    out = capsys.readouterr().out
    assert "train: 2 of 2 images usable" in out
    assert "0 errors" in out


def test_data_check_names_file_and_line_and_exits_with_1(drawn, capsys) -> None:
    label = sorted((drawn.parent / "labels" / "train").glob("*.txt"))[0]
    label.write_text(label.read_text() + "999 0.5 0.5 0.1 0.1\n")
    line = len(label.read_text().splitlines())
    assert main(["data", "check", str(drawn), "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["ok"] is False, "ok says what the exit code says"
    errors = [group for group in content["result"]["groups"] if group["severity"] == "error"]
    assert errors[0]["count"] == 1
    assert f"{label.name}:{line}" in errors[0]["examples"][0]
    assert main(["data", "check", str(drawn)]) == 1
    assert errors[0]["examples"][0] in capsys.readouterr().out
