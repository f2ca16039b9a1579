"""What is clearly off in a run is said once, with what to try; a healthy run hears nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import train_config, write_squares
from yolodet.detector.run.log import Log
from yolodet.detector.run.observer import Epoch, Started
from yolodet.detector.train.assemble import assemble
from yolodet.detector.train.hints import Hints, data_hints, run_hints

pytestmark = pytest.mark.usefixtures("tiny_models")


def rows(aps: list[float], losses: list[float]) -> list[dict[str, Any]]:
    return [
        {"epoch": place, "metrics/map": ap, "train/box_loss": loss, "train/cls_loss": 0.0,
         "train/dfl_loss": 0.0}
        for place, (ap, loss) in enumerate(zip(aps, losses, strict=True), 1)
    ]  # fmt: skip


FALLING = [3.0, 2.5, 2.2, 2.0, 1.9, 1.8, 1.75, 1.7, 1.69, 1.68]


@pytest.mark.parametrize(
    ("aps", "losses", "epochs", "kinds"),
    [
        ([0.0, 0.2, 0.3, 0.4, 0.42, 0.43, 0.43, 0.43, 0.43, 0.43], FALLING, 10, set()),
        ([0.0] * 3, FALLING[:3], 10, set()),  # before a third
        ([0.0] * 4, FALLING[:4], 10, {"nothing"}),
        ([0.0] * 4, FALLING[:4], 5, set()),  # too short to be judged
        ([0.2] * 10, [*FALLING[:6], 2.2, 2.6, 3.0, 3.4], 10, {"rising"}),
        ([0.2] * 9 + [0.3], FALLING, 10, {"short"}),
        ([float("nan")] * 10, FALLING, 10, set()),  # val=False
        ([0.2] * 10, [*FALLING[:7], *[float("nan")] * 3], 10, set()),
    ],
)
def test_what_is_off(aps: list[float], losses: list[float], epochs: int, kinds: set[str]) -> None:
    assert run_hints(rows(aps, losses), epochs).keys() == kinds


def test_each_hint_is_given_once(squares: Path, tmp_path: Path) -> None:
    log = Log(verbose=False)
    hints = Hints(assemble(train_config(squares, tmp_path)[0], log), log)
    hints.started(Started(tmp_path, {}, "m", "d", 0, 10, 4, {}))
    for count in range(1, 11):
        some = rows([0.0] * count, [2.0] * count)
        hints.epoch(Epoch(count, 10, some[-1], some, False, 0.0))
    assert [line for line in log.warnings if "AP is 0.000 after 4 of 10" in line] == log.warnings


def test_small_boxes_and_classes_without_a_box_are_named(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data")
    data.write_text(data.read_text() + "  1: never\n")
    config, _ = train_config(data, tmp_path, imgsz=32)
    (missing,) = data_hints(assemble(config, Log(verbose=False)))
    assert missing.startswith("val has no box of never:")
    for file in (data.parent / "labels/val").glob("*.txt"):
        file.write_text("0 0.5 0.5 0.1 0.1\n")
    small, _ = data_hints(assemble(config, Log(verbose=False)))
    assert small.startswith("100% of the boxes are less than 8 pixels")
