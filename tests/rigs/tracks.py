"""Results of frames with given boxes, and a tracker that needs no package."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


BOTH = {"track_activation_threshold": 0.25, "high_conf_det_threshold": 0.25}
DIRECT: dict[str, Callable[[float], Any]] = {
    "bytetrack": lambda fps: _library("ByteTrackTracker", fps, **BOTH),
    "botsort": lambda fps: _library("BoTSORTTracker", fps, **BOTH),
    "cbiou": lambda fps: _library("CBIoUTracker", fps, **BOTH),
    "ocsort": lambda fps: _library("OCSORTTracker", fps, high_conf_det_threshold=0.25),
    "sort": lambda fps: _library("SORTTracker", fps, track_activation_threshold=0.25),
}
"""The library's trackers with the defaults of det; argument: frames per second."""


def _library(name: str, fps: float, **words: float) -> Any:
    import trackers

    return getattr(trackers, name)(frame_rate=fps, **words)


def direct_rows(
    tracker: Any, frames: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], looks: bool = False
) -> np.ndarray:
    """Rows [N,9] of MOTChallenge that a tracker of the library gives by itself.

    frames: boxes [N,4], scores [N] and RGB image of each frame.  looks: it takes the image.
    """
    import supervision

    rows = []
    for number, (boxes, scores, image) in enumerate(frames, 1):
        given = supervision.Detections(xyxy=boxes.reshape(-1, 4), confidence=scores)
        words = {"frame": image[:, :, ::-1].copy()} if looks else {}
        found = tracker.update(given, **words)
        kept = zip(found.xyxy, found.tracker_id, strict=True)
        for (x1, y1, x2, y2), i in ((b.astype(np.float64), i) for b, i in kept if i >= 0):
            rows.append((number, i, x1, y1, x2 - x1, y2 - y1, 1, 1, -1))
    return np.array(rows, np.float64).reshape(-1, 9)


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
