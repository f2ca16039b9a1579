"""Two or three runs on one page: options that differ, curves over one another, the difference of
their AP with its interval, and images where one is right and another wrong.

All are measured anew on the same images, each against the first.
"""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ...files.yaml_text import read_yaml
from ..checkpoints.compare import compare_evaluations, measured
from ..evaluate.checked import checked_images
from ..evaluate.evaluator import Evaluation
from ..evaluate.pictures import plot_pairs
from ..options.compare import CompareConfig
from ..options.report import ReportConfig
from ..options.shared import CommonConfig
from ..report.contents import picture
from ..report.page import render
from ..run.files import write_text
from ..run.folder import PAGE, new_run_folder
from ..run.log import Log

CURVES = {
    "AP": ("metrics/map",),
    "training loss": ("train/box_loss", "train/cls_loss", "train/dfl_loss"),
    "validation loss": ("val/box_loss", "val/cls_loss", "val/dfl_loss"),
}
COLORS = ("#1d84db", "#e0692b", "#3c9b5b")
PLACES = ("name", "project", "exist_ok", "resume", "verbose")
"""Options that say nothing of a run."""
WIDTH, HEIGHT = 360, 200
"""Of a plot."""
IMAGES = 4
"""For which a run is better than another."""


def write_side_by_side(
    config: ReportConfig, folders: Sequence[Path], pairs: Sequence[CompareConfig], log: Log
) -> tuple[Path, list[str]]:
    """Measure and write the page into a new run folder.  pairs: the first run and each other one.
    Returns where it is, and a verdict for each pair."""
    first, data = measured(pairs[0], str(pairs[0].a), frozenset(), log)
    others = [measured(pair, str(pair.b), frozenset(), log)[0] for pair in pairs]
    names = _names(folders)
    compared = [
        {"name": name, **compare_evaluations(pair, first, other, data)}
        for name, pair, other in zip(names[1:], pairs, others, strict=True)
    ]
    for each in compared:
        log.info(f"{names[0]} (a) and {each['name']} (b): {each['verdict']}")
    parts = {
        "runs": [
            {"name": name, "folder": str(folder), "color": color}
            for name, folder, color in zip(names, folders, COLORS, strict=False)
        ],
        "data": data,
        "options": differing([_options(folder) for folder in folders]),
        "plots": plots([_rows(folder) for folder in folders]),
        "compared": compared,
        "images": [
            block
            for name, other in zip(names[1:], others, strict=True)
            for block in _disagreements((names[0], first), (name, other))
        ],
    }
    folder = new_run_folder(cast(CommonConfig, config), "report")
    write_text(folder / PAGE, render(parts, "side_by_side.html"))
    return folder / PAGE, [f"{each['name']}: {each['verdict']}" for each in compared]


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names, or their paths where two have the same."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _options(folder: Path) -> Mapping[str, Any]:
    file = folder / "args.yaml"
    content = read_yaml(file) if file.is_file() else {}
    return content if isinstance(content, Mapping) else {}


def differing(options: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Options that are not the same in all runs, with the value in each."""
    names = dict.fromkeys(name for each in options for name in each if name not in PLACES)
    rows = [(str(name), [str(each.get(name, "-")) for each in options]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _rows(folder: Path) -> list[dict[str, str]]:
    file = folder / "results.csv"
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def plots(runs: Sequence[Sequence[Mapping[str, str]]]) -> list[dict[str, Any]]:
    """Title, range and a line for each run: points of an SVG, "" where a run has no numbers."""
    found = []
    for title, columns in CURVES.items():
        lines = [[_sum(row, columns) for row in rows] for rows in runs]
        known = [value for line in lines for value in line if math.isfinite(value)]
        if not known:
            continue
        low, high, longest = min(known), max(known), max(map(len, lines))
        points = [_points(line, low, high, longest) for line in lines]
        found.append({"title": title, "low": low, "high": high, "epochs": longest,
                      "lines": list(zip(points, COLORS, strict=False))})  # fmt: skip
    return found


def _sum(row: Mapping[str, str], columns: Sequence[str]) -> float:
    """nan where a column has no number."""
    try:
        return sum(float(row[name]) for name in columns)
    except (KeyError, TypeError, ValueError):
        return math.nan


def _points(line: Sequence[float], low: float, high: float, longest: int) -> str:
    across, up = max(longest - 1, 1), (high - low) or 1.0
    return " ".join(
        f"{place / across * WIDTH:.1f},{HEIGHT - (value - low) / up * HEIGHT:.1f}"
        for place, value in enumerate(line)
        if math.isfinite(value)
    )


@dataclass(frozen=True)
class _Side:
    name: str
    evaluation: Evaluation


def _disagreements(*sides: tuple[str, Evaluation]) -> list[dict[str, Any]]:
    """For each of two runs the images where it makes fewer errors, with the boxes of both."""
    one, two = (_Side(*side) for side in sides)
    checked = [checked_images(side.evaluation) for side in (one, two)]
    gains = [b.errors - a.errors for (_, a), (_, b) in zip(*checked, strict=True)]
    blocks = []
    for better, worse, sign in ((one, two, 1), (two, one, -1)):
        order = sorted(range(len(gains)), key=lambda place: (-sign * gains[place], place))
        chosen = [place for place in order[:IMAGES] if sign * gains[place] > 0]
        if chosen:
            blocks.append({
                "title": f"{better.name} is right and {worse.name} is not",
                "pictures": [
                    (side.name, _drawn(side, [checked[k][place] for place in chosen]))
                    for k, side in enumerate((one, two))
                ],
            })  # fmt: skip
    return blocks


def _drawn(side: _Side, images: Sequence[Any]) -> Any:
    """The images with the boxes of a run as the address of a picture; None where they are gone."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.jpg"
        plot_pairs(side.evaluation, images, side.evaluation.metrics.class_names, file)
        return picture(file) if file.is_file() else None
