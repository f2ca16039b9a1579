"""``det report A B``: what differs, what ``det compare`` says, pictures; text stays text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report import NASTY, Page
from tiny import train, val, write_squares
from yolodet.cli import main
from yolodet.detector.examine.side_by_side import differing, plots

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Data with a class whose name is HTML, and two runs of other lengths."""
    data = write_squares(tmp_path / "data")
    data.write_text("train: images/train\nval: images/val\nnames: " + json.dumps([NASTY]) + "\n")
    for name, epochs in (("short", 1), ("<b>long", 12)):
        train(data, tmp_path, name=name, epochs=epochs, warmup_epochs=0, mosaic=0.0, lr0=0.02)
    return tmp_path / "short", tmp_path / "<b>long", data


def test_the_page_says_what_compare_says(
    runs: tuple[Path, Path, Path], tmp_path: Path, capsys: Any
) -> None:
    short, long, data = runs
    words = ["device=cpu", "workers=0"]
    assert main(["report", str(short), str(long), f"project={tmp_path}", *words, "json=True"]) == 0
    told = json.loads(capsys.readouterr().out)["result"]
    file = Path(told["report"])
    page = Page(file.read_text())
    assert main(["compare", str(short), str(long), f"data={data}", *words, "json=True"]) == 0
    compared = json.loads(capsys.readouterr().out)["result"]
    assert compared["verdict"] in page.text and compared["verdict"] in told["verdicts"][0]
    for name in ("ap_a", "ap_b"):
        assert f"{compared[name]:.3f}" in page.text
    assert f"{compared['low']:+.3f} to {compared['high']:+.3f}" in page.text
    for side in "ab":
        alone = val(model=compared[side], data=str(data), project=str(tmp_path / side))
        assert compared[f"ap_{side}"] == pytest.approx(alone["metrics"]["map"], abs=1e-9)
    tags = [tag for tag, _ in page.tags]
    assert "b" not in tags and "script" not in tags and "<b>long" in page.text
    assert sum(tag == "polyline" for tag in tags) >= 3
    sources = [attrs["src"] or "" for tag, attrs in page.tags if tag == "img"]
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert file.stat().st_size < 5e6
    assert "epochs" in page.text


def test_only_options_that_differ_are_shown() -> None:
    a, b = {"lr0": 0.1, "name": "a", "box": 7.5}, {"lr0": 0.2, "name": "b", "box": 7.5, "new": 1}
    assert differing([a, b]) == [("lr0", ["0.1", "0.2"]), ("new", ["-", "1"])]


def test_curves_share_their_axes() -> None:
    rows = [{"metrics/map": "0.0"}, {"metrics/map": "nan"}, {"metrics/map": "0.5"}]
    (plot,) = plots([rows, rows[:1], []])
    assert plot["lines"][0][0] == "0.0,200.0 360.0,0.0"
    assert [line for line, _ in plot["lines"]][1:] == ["0.0,200.0", ""]
    assert np.isclose(plot["high"], 0.5) and plot["epochs"] == 3


def test_what_is_no_run_is_refused(squares: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["report", str(tmp_path), str(tmp_path)]) == 2
    assert "no results.json" in capsys.readouterr().err
    assert main(["report", "b=x"]) == 2
    assert "name the runs" in capsys.readouterr().err
