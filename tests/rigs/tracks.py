"""Results of frames with given boxes, and a tracker that needs no package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from yolodet.detector.evaluate.postprocess import Detections
from yolodet.detector.options.parse import parse
from yolodet.detector.options.track import TrackConfig
from yolodet.detector.predict.results import Results
from yolodet.detector.predict.sources import Frame

needs_trackers = pytest.mark.skipif(find_spec("trackers") is None, reason="needs trackers")
NAMES = {0: "cat", 1: "dog"}


def options(**words: Any) -> TrackConfig:
    return parse(TrackConfig, words)[0]


def result(
    boxes: Any, labels: Any = None, scores: Any = None, path: str = "a.mp4", frame: int | None = 0
) -> Results:
    """What was found in a gray image of 64 x 48 pixels."""
    boxes = torch.tensor(np.asarray(boxes, np.float32).reshape(-1, 4))
    labels = torch.zeros(len(boxes), dtype=torch.int64) if labels is None else torch.tensor(labels)
    scores = torch.full((len(boxes),), 0.9) if scores is None else torch.tensor(scores)
    image = np.full((48, 64, 3), 99, np.uint8)
    found = Detections(boxes, scores.float(), labels)
    return Results(Frame(image, Path(path), frame, 25.0), found, NAMES, {"inference": 1.0})


class Counting:
    """A tracker that calls the first box of a frame 1, the second 2; scores below 0.5 have no
    track.  made: how many there are."""

    made = 0

    def __init__(self, config: TrackConfig, fps: float | None) -> None:
        type(self).made += 1
        self.count = 0

    def update(self, boxes: Any, scores: Any, labels: Any, image: Any) -> np.ndarray:
        ids = np.where(scores >= 0.5, np.arange(1, len(boxes) + 1), 0)
        self.count = max(self.count, int(ids.max(initial=0)))
        return ids.astype(np.int64)
