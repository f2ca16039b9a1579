"""The hardest images of an evaluation: most missed, most false alarms, lowest overlap."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from ..run.files import write_json
from .checked import Checked, checked_images
from .evaluator import Evaluation
from .pictures import plot_pairs

IMAGES = 4
"""Images of each kind."""

HARDNESS: dict[str, Callable[[Checked], float]] = {
    "missed": lambda checked: float(checked.missed.sum()),
    "false": lambda checked: float(checked.false.sum()),
    "overlap": lambda checked: 1 - checked.overlap,
}
"""Kind -> how hard an image is; 0 and nan: not at all."""


SHEETS = {
    "missed": "hardest_missed.jpg",
    "false": "hardest_false.jpg",
    "overlap": "hardest_overlap.jpg",
}
"""Kind -> its picture in the run folder."""


def hardest_images(evaluation: Evaluation) -> dict[str, list[tuple[int, Checked]]]:
    """Place among the measured images, and boxes, of the hardest images of each kind."""
    images = checked_images(evaluation)
    hardest = {}
    for kind, hardness in HARDNESS.items():
        hard = [(hardness(checked), place, checked) for place, checked in images]
        hard = [image for image in hard if image[0] > 0 and math.isfinite(image[0])]
        hard.sort(key=lambda image: (-image[0], image[1]))
        hardest[kind] = [(place, checked) for _, place, checked in hard[:IMAGES]]
    return hardest


def write_hardest(folder: Path, evaluation: Evaluation) -> None:
    """Write hardest.json, and hardest_missed.jpg, hardest_false.jpg and hardest_overlap.jpg where
    there is such an image."""
    hardest = hardest_images(evaluation)
    for kind, images in hardest.items():
        plot_pairs(evaluation, images, evaluation.metrics.class_names, folder / SHEETS[kind])
    told = {
        kind: [_numbers(evaluation.paths[place].name, checked) for place, checked in images]
        for kind, images in hardest.items()
    }
    write_json(folder / "hardest.json", told)


def _numbers(name: str, checked: Checked) -> dict[str, str | int | float]:
    return {
        "image": name,
        "true": len(checked.truth),
        "missed": int(checked.missed.sum()),
        "found": len(checked.found),
        "false": int(checked.false.sum()),
        "overlap": checked.overlap,
    }
