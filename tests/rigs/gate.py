"""The accuracy gate: one small run whose AP tells whether det still learns as it should.

Scenes are drawn, yolo26n learns them from scratch by the shipped defaults, through the command line
as a user would, in float32, and is measured through both heads.  Each measure has to land in its
band.  What the bands rest on, and what breaks them: docs/accuracy-gate.md.

The ten kinds of things that det draws are two classes here, round and not: ten cannot be told
apart in a minute, and numbers near 0 tell little.

As a program it is one run: ``python tests/rigs/gate.py FOLDER SEED`` prints the measures as JSON.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from yolodet.cli import main
from yolodet.datasets.drawn.shapes import SHAPE_CLASSES

ROUND = ("stop sign", "sports ball", "pizza", "donut", "clock")
SCENES = {"n": 352, "val": 96, "imgsz": 192}
RUN = {"model": "yolo26n", "epochs": 30, "batch": 16, "imgsz": 160, "amp": False, "patience": 0}
QUIET = {"device": "cpu", "workers": 0, "plots": False}

BANDS = {
    "AP, NMS-free": (0.15, 0.28),
    "AP, NMS": (0.15, 0.31),
    "AP on the way": (0.07, 0.17),
}
"""Measure -> lowest and highest value that passes."""


class CommandFailed(RuntimeError):
    """A command of det did not exit with 0."""


def det(*words: str, **options: Any) -> dict[str, Any]:
    """The result of a command of det."""
    typed = [*words, *(f"{name}={value}" for name, value in options.items()), "--json", "--quiet"]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(typed)
    if code >= 128:
        sys.exit(code)  # stopped by a signal: that says nothing about det
    answer = json.loads(out.getvalue())
    if code:
        raise CommandFailed(f"det {' '.join(words)} exits with {code}: {answer['error']}")
    result: dict[str, Any] = answer["result"]
    return result


def draw(folder: Path) -> Path:
    """The scenes in ``folder``, drawn where they are not there yet; returns the YAML."""
    data = folder / "two.yaml"
    if not data.exists():
        det("data", "shapes", out=folder, **SCENES)
        for file in folder.glob("labels/*/*.txt"):
            rows = (line.split() for line in file.read_text().splitlines())
            merged = ((SHAPE_CLASSES[int(label)] in ROUND, *box) for label, *box in rows)
            file.write_text("".join(" ".join((str(int(c)), *box)) + "\n" for c, *box in merged))
        data.write_text("train: images/train\nval: images/val\nnames: [other, round]\n")
    return data


def measure(data: Path, folder: Path, seed: int) -> dict[str, float]:
    """Train and validate in ``folder``; returns the measures of BANDS."""
    run = det("train", data=data, seed=seed, project=folder, **RUN, **QUIET)
    nms = det("val", model=run["best"], data=data, nms=True, project=folder, **QUIET)
    with (Path(run["folder"]) / "results.csv").open() as file:
        course = [float(row["metrics/map"]) for row in csv.DictReader(file)]
    third = len(course) // 3
    return {
        "AP, NMS-free": run["metrics"]["map"],
        "AP, NMS": nms["metrics"]["map"],
        "AP on the way": statistics.mean(course[third : 2 * third]),
    }


def outside(measures: dict[str, float]) -> list[str]:
    """The measures that are not in their bands."""
    return [name for name, (low, high) in BANDS.items() if not low <= measures[name] <= high]


if __name__ == "__main__":
    where = Path(sys.argv[1])
    print(json.dumps(measure(draw(where / "data"), where, int(sys.argv[2]))))
