"""The trackers of the package ``trackers`` used by themselves, without det."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Frames = Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Boxes [N,4] xyxy float32, scores [N] float32 and the RGB image of each frame."""

CLASSES = {
    "bytetrack": "ByteTrackTracker",
    "botsort": "BoTSORTTracker",
    "ocsort": "OCSORTTracker",
    "cbiou": "CBIoUTracker",
    "sort": "SORTTracker",
}
_START, _HIGH = "track_activation_threshold", "high_conf_det_threshold"
VALUES: dict[str, dict[str, float]] = {
    "bytetrack": {_START: 0.25, _HIGH: 0.25},
    "botsort": {_START: 0.25, _HIGH: 0.25},
    "ocsort": {_HIGH: 0.25},
    "cbiou": {_START: 0.25, _HIGH: 0.25},
    "sort": {_START: 0.25},
}
"""What det gives them where nothing is typed; all else is the library's own."""


def tracker(name: str, fps: float, **values: float) -> Callable[[Frames], np.ndarray]:
    """Frames -> the rows [T,9] of MOTChallenge that this tracker makes of them."""
    import trackers

    made = getattr(trackers, CLASSES[name])(frame_rate=fps, **values)
    return lambda frames: _rows(made, frames, looks=name == "botsort")


def _rows(made: Any, frames: Frames, looks: bool) -> np.ndarray:
    """looks: the tracker takes the image too."""
    import supervision

    rows = []
    for number, (boxes, scores, image) in enumerate(frames, 1):
        given = supervision.Detections(xyxy=boxes.reshape(-1, 4), confidence=scores)
        found = made.update(given, **({"frame": image[:, :, ::-1].copy()} if looks else {}))
        for box, identity in zip(found.xyxy.astype(np.float64), found.tracker_id, strict=True):
            if identity >= 0:
                rows.append((number, identity, *box[:2], *(box[2:] - box[:2]), 1, 1, -1))
    return np.array(rows, np.float64).reshape(-1, 9)
