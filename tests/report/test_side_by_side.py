"""``det report A B``: what differs, what ``det compare`` says, pictures; text stays text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_reference import pycocotools_numbers
from test_report import NASTY, Page
from tiny import train, val, write_squares
from yolodet.cli import main
from yolodet.detector.evaluate.bootstrap import samples
from yolodet.detector.examine.side_by_side import differing, plots

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Data with a class whose name is HTML, and two runs of other lengths.

    The images are noisy: on plain ones many scores are equal, and among these COCO's order of the
    images decides, which repeated images change.
    """
    data = write_squares(tmp_path / "data")
    rng = np.random.default_rng(0)
    for file in sorted(data.parent.glob("images/*/*.png")):
        image = cv2.imread(str(file))
        noise = rng.integers(-20, 21, image.shape)
        assert cv2.imwrite(str(file), np.clip(image + noise, 0, 255).astype(np.uint8))
    data.write_text("train: images/train\nval: images/val\nnames: " + json.dumps([NASTY]) + "\n")
    for name, epochs in (("short", 1), ("<b>long", 12)):
        train(data, tmp_path, name=name, epochs=epochs, warmup_epochs=0, mosaic=0.0, lr0=0.02)
    return tmp_path / "short", tmp_path / "<b>long", data


def test_the_page_says_what_compare_and_a_slow_bootstrap_say(
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
    found = []
    for side in "ab":
        alone = val(
            model=compared[side], data=str(data), project=str(tmp_path / side), save_json=True
        )
        assert compared[f"ap_{side}"] == pytest.approx(alone["metrics"]["map"], abs=1e-9)
        found.append(json.loads((tmp_path / side / "val/predictions.json").read_text()))
    slow = slow_interval(data.parent, *found, compared["samples"])
    assert slow[0] < slow[1]
    assert (compared["low"], compared["high"]) == pytest.approx(slow, abs=1e-6)
    assert f"95 % interval {slow[0]:+.3f} to {slow[1]:+.3f}" in told["verdicts"][0]
    tags = [tag for tag, _ in page.tags]
    assert "b" not in tags and "script" not in tags and "<b>long" in page.text
    assert sum(tag == "polyline" for tag in tags) >= 3
    sources = [attrs["src"] or "" for tag, attrs in page.tags if tag == "img"]
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert file.stat().st_size < 5e6
    assert "epochs" in page.text


def slow_interval(
    folder: Path, a: list[dict[str, Any]], b: list[dict[str, Any]], count: int
) -> tuple[float, float]:
    """The interval of b - a by pycocotools: for every sample of the four images a set is written
    that holds them as often as they were drawn.  a, b: predictions.json."""
    labels = [(folder / f"labels/val/{n}.txt").read_text().split() for n in range(4)]
    boxes = [np.array(row[1:], float) * 64 for row in labels]

    def ap(found: list[dict[str, Any]], drawn: tuple[int, ...]) -> float:
        images = [{"id": n, "width": 64, "height": 64} for n in range(4)]
        truth = [
            {"id": n + 1, "image_id": n, "category_id": 0, "area": w * h, "iscrowd": 0,
             "bbox": [x - w / 2, y - h / 2, w, h]}
            for n, (x, y, w, h) in enumerate(boxes[image] for image in drawn)
        ]  # fmt: skip
        results = [
            {**row, "image_id": n, "category_id": 0}
            for n, image in enumerate(drawn) for row in found if row["image_id"] == image
        ]  # fmt: skip
        document = {"images": images, "annotations": truth, "categories": [{"id": 0, "name": "x"}]}
        return pycocotools_numbers(document, results)["map"]

    draws = [tuple(np.repeat(range(4), row)) for row in samples(4, count, seed=0)]
    known = {draw: ap(b, draw) - ap(a, draw) for draw in set(draws)}  # 35 at most
    low, high = np.quantile([known[draw] for draw in draws], (0.025, 0.975))
    return float(low), float(high)


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
