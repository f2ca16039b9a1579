"""The seam to trackers: boxes of a frame in, numbers of tracks out.

``LibraryTracker`` stands on the package ``trackers`` (Roboflow, Apache-2.0), which is imported only
here and where tracks are measured.  Another library is another ``ObjectTracker``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np

from ..options.track import TrackConfig

FPS = 30.0
"""Frames per second where the source does not say (cameras, folders)."""
NEEDS_IMAGE = ("botsort",)
"""Trackers that look at the image, for the motion of the camera."""


class ObjectTracker(Protocol):
    """Follows the objects of one video."""

    count: int
    """Tracks so far."""

    def update(
        self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, image: np.ndarray
    ) -> np.ndarray:
        """Ids [D] int64 of the boxes of the next frame, from 1; 0 for a box without a track.

        boxes: [D,4] xyxy pixels.  scores: [D].  labels: [D] int64.  image: [H,W,3] uint8 RGB.
        """


MakeTracker = Callable[[TrackConfig, float | None], ObjectTracker]
"""Options and frames per second (None if unknown) -> a tracker for a new video."""


class LibraryTracker:
    """A tracker of the package ``trackers``; with ``per_class`` one for each class.

    The numbers of the library begin at 0 for each class; here they begin at 1 and no two tracks
    share one.  Only numbers of tracks that the library still knows are remembered.
    """

    def __init__(self, config: TrackConfig, fps: float | None) -> None:
        self.count = 0
        self._config = config
        self._fps = fps or FPS
        self._trackers: dict[int, Any] = {}  # by class; one, 0, without per_class
        self._ids: dict[tuple[int, int], int] = {}  # (class, number of the library) -> ours

    def update(
        self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, image: np.ndarray
    ) -> np.ndarray:
        ids = np.zeros(len(boxes), np.int64)
        groups = labels if self._config.per_class else np.zeros_like(labels)
        first = set() if self._config.per_class else {0}
        for group in sorted({*first, *self._trackers, *groups.tolist()}):  # time passes for each
            if group not in self._trackers:
                self._trackers[group] = library_tracker(self._config, self._fps)
            rows = np.flatnonzero(groups == group)
            found = self._follow(group, boxes[rows], scores[rows], image)
            for row, number in zip(rows[found[:, 0]], found[:, 1].tolist(), strict=True):
                ids[row] = self._id(group, number)
        self._forget()
        return ids

    def _follow(
        self, group: int, boxes: np.ndarray, scores: np.ndarray, image: np.ndarray
    ) -> np.ndarray:
        """(row, number of the library) [T,2] of the boxes that belong to tracks."""
        import supervision

        given = supervision.Detections(
            xyxy=boxes.astype(np.float32).reshape(-1, 4),
            confidence=scores.astype(np.float32),
            data={"row": np.arange(len(boxes))},
        )
        looks = self._config.tracker in NEEDS_IMAGE
        frame = {"frame": cv2.cvtColor(image, cv2.COLOR_RGB2BGR)} if looks else {}
        found = self._trackers[group].update(given, **frame)
        if not len(found):
            return np.zeros((0, 2), np.int64)
        pairs = np.stack((found.data["row"], found.tracker_id), 1)
        return np.asarray(pairs[pairs[:, 1] >= 0], np.int64)

    def _id(self, group: int, number: int) -> int:
        key = (group, number)
        if key not in self._ids:
            self.count += 1
            self._ids[key] = self.count
        return self._ids[key]

    def _forget(self) -> None:
        """Drop the numbers of tracks that ended: a camera runs for days."""
        alive = {
            (group, track.tracker_id)
            for group, tracker in self._trackers.items()
            for track in tracker.tracks
        }
        self._ids = {key: number for key, number in self._ids.items() if key in alive}


def library_tracker(config: TrackConfig, fps: float) -> Any:
    """The tracker of ``trackers`` that the options name, with its own values for what they leave
    out."""
    import trackers

    start = {"track_activation_threshold": config.new_track_thresh}
    first = {"high_conf_det_threshold": config.track_high_thresh}
    known: dict[str, tuple[str, dict[str, float]]] = {
        "bytetrack": ("ByteTrackTracker", {**start, **first}),
        "botsort": ("BoTSORTTracker", {**start, **first}),
        "cbiou": ("CBIoUTracker", {**start, **first}),
        "ocsort": ("OCSORTTracker", first),
        "sort": ("SORTTracker", start),
    }
    name, options = known[config.tracker]
    make = getattr(trackers, name)
    return make(lost_track_buffer=config.track_buffer, frame_rate=fps, **options)
