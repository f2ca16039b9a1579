"""``det compare``: two trained models, their AP as det val measures it, and the interval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import train, val, write_tiny_data
from yolodet.cli import main

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.fixture
def runs(squares: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The same training, stopped early and late."""
    for name, epochs in (("short", 1), ("long", 12)):
        train(squares, tmp_path, name=name, epochs=epochs, warmup_epochs=0, mosaic=0.0, lr0=0.02)
    return tmp_path / "short", tmp_path / "long"


def compare(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    call = ["compare", *words, "device=cpu", "workers=0", "samples=200", "json=True"]
    assert main(call) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)["result"]
    return answer


def test_compare_measures_what_val_measures_and_a_swap_changes_the_sign(
    runs: tuple[Path, Path], squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, long = map(str, runs)
    data = f"data={squares}"
    found = compare(capsys, short, long, data)
    for one in "ab":
        measured = val(model=found[one], data=str(squares), project=str(tmp_path / one))
        assert found[f"ap_{one}"] == pytest.approx(measured["metrics"]["map"], abs=1e-9)
    assert found["images"] == 4 and [row["name"] for row in found["per_class"]] == ["square"]
    assert found["low"] <= found["difference"] <= found["high"]
    turned = compare(capsys, f"a={long}", f"b={short}", data)
    assert turned["difference"] == -found["difference"]
    assert (turned["low"], turned["high"]) == pytest.approx((-found["high"], -found["low"]))


def test_a_model_is_not_better_than_itself(
    runs: tuple[Path, Path], squares: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(runs[1]), str(runs[1]), f"data={squares}", "device=cpu"]) == 0
    text = capsys.readouterr().out
    assert "no clear difference on 4 images: b - a is +0.000 AP" in text


def test_detectors_of_other_classes_are_refused(
    runs: tuple[Path, Path], squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(write_tiny_data(tmp_path / "other"), tmp_path, name="other", epochs=1)
    call = ["compare", str(runs[0]), str(tmp_path / "other"), f"data={squares}", "device=cpu"]
    assert main(call) == 2
    assert "class" in capsys.readouterr().err
