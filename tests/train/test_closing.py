"""What a run says: a line per epoch, its time limit, its last words, the reasons of a low AP."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny import train_config
from yolodet.detector.commands.closing import show_training
from yolodet.detector.run.log import Log
from yolodet.detector.run.observer import Epoch, Started
from yolodet.detector.run.terminal import Terminal, number
from yolodet.detector.run.words import duration
from yolodet.detector.train.assemble import Run, assemble
from yolodet.detector.train.budget import REPORT_SECONDS, Budget, first_estimate
from yolodet.detector.train.reasons import reasons

pytestmark = pytest.mark.usefixtures("tiny_models")

TITLES = {"P": "metrics/precision", "R": "metrics/recall", "AP50": "metrics/map_50",
          "AP": "metrics/map"}  # fmt: skip


def lines_of(width: int, rows: list[tuple[float, bool]], capsys: Any) -> list[str]:
    """What the terminal shows of epochs with these APs; True: the best so far."""
    log = Log()
    log._console = Console(stderr=True, width=width, color_system=None)
    terminal = Terminal(log)
    terminal.started(Started(Path("x"), {}, "m", "d", 0, len(rows), 4, TITLES))
    for place, (ap, best) in enumerate(rows, 1):
        row = dict.fromkeys(TITLES.values(), 0.5) | {"images_per_s": 12.34}
        row |= {f"{split}/{part}_loss": 1.5 for split in ("train", "val")
                for part in ("box", "cls", "dfl")}  # fmt: skip
        row["metrics/map"] = ap
        terminal.epoch(Epoch(place, len(rows), row, [row], best, 1.0))
    return capsys.readouterr().err.splitlines()


def test_a_line_per_epoch_has_the_losses_p_and_r_and_marks_the_best(capsys) -> None:
    rows = [(0.0, True), (0.25, True), (0.125, False), (math.nan, True)]
    header, *lines = lines_of(120, rows, capsys)
    names = ["epoch", "box", "cls", "dfl", "val", "box", "val", "cls", "val", "dfl", "P", "R",
             "AP50", "AP", "img/s", "GiB", "left"]  # fmt: skip
    assert header.split() == names
    assert [line.endswith(" best") for line in lines] == [False, True, False, True]
    assert number(6501.7, 3) == "6502" and number(99.5, 1) == "99.5"
    assert " 0.250 " in lines[1] and " 0.125 " in lines[2] and " - " in lines[3]


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_line_is_wider_than_the_terminal(width: int, capsys) -> None:
    lines = lines_of(width, [(0.2, True)] * 2, capsys)
    assert len(lines) == 3 and max(map(len, lines)) <= max(width, 70)
    assert all(name in lines[0] for name in ("box", "cls", "dfl", "P", "R", "AP50", "AP", "left"))
    assert ("val box" in lines[0]) == (width >= 100)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (179, "179 s"), (180, "3 min"), (5000, "83 min"), (7500, "2 h 5 min"),
     (100 * 3600, "4 d 4 h")],
)  # fmt: skip
def test_times_are_said_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_time_limit_counts_the_start_and_keeps_time_for_the_report() -> None:
    budget = Budget(300 / 3600, time.monotonic() - 100)
    assert budget.left() == pytest.approx(200, abs=1)
    assert budget.more_epochs(50, 10) == (200 - 10 - REPORT_SECONDS) // 50
    budget.before = 150  # of the run before it was resumed
    assert budget.more_epochs(50, 10) == 0
    assert first_estimate(100, (50, 0)) == (100, 0)
    epoch, val = first_estimate(100, (50, 25))
    assert epoch == 100 + val and 0 < val < 50


# ---------------------------------------------------------------- last words

METRICS = {"map": 0.41, "map_50": 0.7, "best_conf": 0.31, "precision": 0.8, "recall": 0.6}
RESULT = {"metrics": METRICS, "best_epoch": 3, "epochs": 5, "folder": "runs/a b",
          "best": "runs/a b/weights/best.safetensors", "example": "/data/1.jpg"}  # fmt: skip


def test_the_last_words_say_how_good_it_is_where_it_is_and_what_to_do() -> None:
    text = show_training(RESULT)
    assert "AP 0.410, AP50 0.700: fair" in text
    assert "at confidence 0.31, 80% of the boxes found are right (precision) and 60% of" in text
    assert "best epoch: 3 of 5" in text
    assert f"results: {Path('runs/a b').resolve()}" in text
    assert text.splitlines()[-3:] == [
        "  det val model='runs/a b'",
        "  det predict /data/1.jpg conf=0.31 model='runs/a b'",
        "  det export format=onnx model='runs/a b'",
    ]


def test_without_an_ap_the_reason_is_said_instead() -> None:
    metrics = {**METRICS, "map": None, "map_50": None}
    text = show_training({**RESULT, "metrics": metrics, "reasons": ["no box"]})
    assert "AP" not in text and "likely reason: no box" in text


@pytest.fixture
def run(squares: Path, tmp_path: Path) -> Run:
    config, _ = train_config(squares, tmp_path)
    return assemble(config, Log(verbose=False))


def test_reasons_of_a_low_ap_come_from_the_data_of_the_run(run: Run) -> None:
    assert reasons(run, 0.5, 10, [{}]) == []
    few, short = reasons(run, 0.0, 10, [{}, {}])
    assert few.startswith("8 training images") and short.startswith("10 steps in 2 epochs")
    assert reasons(run, 0.0, 10_000, [{}])[0] == few

    empty = [replace(r, boxes=r.boxes[:0], labels=r.labels[:0]) for r in run.val.records]
    nothing = replace(run, val=replace(run.val, records=empty))
    assert reasons(nothing, None, 1, []) == [
        "no image of val has a box: there is nothing to measure with"
    ]

    tiny = [replace(r, boxes=r.boxes / 10) for r in run.val.records]
    said = reasons(replace(run, val=replace(run.val, records=tiny)), 0.01, 1, [])
    assert said[0].startswith("100% of the boxes are less than 8 pixels high or wide at imgsz=64")

    others = [replace(r, labels=r.labels + 1) for r in run.val.records]
    two = replace(run, class_names=("square", "disc"), val=replace(run.val, records=others))
    assert reasons(two, 0.0, 1, [])[0] == (
        "4 of 4 boxes in val are of classes that train never shows (disc)"
    )
