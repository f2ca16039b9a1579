"""Results of frames that follow each other, with the numbers of tracks and their trails."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..options.track import TrackConfig
from ..predict.boxes import Boxes
from ..predict.results import Results
from .tracker import LibraryTracker, MakeTracker, ObjectTracker

Key = tuple[str, tuple[int, int]]


class Tracking:
    """Follows objects through results.

    Every video has a tracker of its own.  Images one after the other in a folder, and arrays, are
    frames of one video; one of another size begins a new one.  persist: keep the tracker
    whatever comes.  make: what makes a tracker.  count: tracks so far.

    Memory is bounded: a tracker forgets tracks that were not seen for ``track_buffer``, a trail
    has ``trail`` points and goes when its object was not seen for as many frames.
    """

    def __init__(
        self, config: TrackConfig, persist: bool = False, make: MakeTracker = LibraryTracker
    ) -> None:
        self.config = config
        self.persist = persist
        self._make = make
        self._tracker: ObjectTracker | None = None
        self._key: Key | None = None
        self._frame = -1
        self._earlier = 0
        self._trails = Trails(config.trail)

    @property
    def count(self) -> int:
        return self._earlier + (self._tracker.count if self._tracker else 0)

    def follow(self, results: Iterable[Results]) -> Iterator[Results]:
        """The results with the boxes that belong to tracks."""
        return map(self.update, results)

    def update(self, result: Results) -> Results:
        """The next frame: its boxes that belong to tracks [T,7], with their trails."""
        tracker = self._tracker_for(result)
        boxes = result.boxes.cpu()
        found = boxes.numpy()
        labels = found.cls.astype(np.int64)
        ids = tracker.update(found.xyxy, found.conf, labels, result.image)
        rows = np.flatnonzero(ids)
        numbers = torch.from_numpy(ids[rows]).float()[:, None]
        data = boxes.data[torch.from_numpy(rows)]
        tracks = Boxes(torch.cat((data[:, :4], numbers, data[:, 4:]), 1), result.orig_shape)
        return result.with_tracks(tracks, self._trails.add(ids[rows], found.xyxy[rows]))

    def _tracker_for(self, result: Results) -> ObjectTracker:
        """The tracker of this video; a new one where another video begins."""
        path = result.source.path
        name = str(path.parent if result.frame is None else path)
        key, frame = (name, result.orig_shape), result.frame
        goes_on = key == self._key and (frame is None or frame > self._frame)
        self._key, self._frame = key, -1 if frame is None else frame
        if self._tracker is None or not (goes_on or self.persist):
            self._earlier = self.count
            self._tracker = self._make(self.config, result.source.fps)
            self._trails = Trails(self.config.trail)
        return self._tracker


def continued(before: Tracking | None, config: TrackConfig, persist: bool) -> Tracking:
    """The tracking of a call in Python: a new one, or with ``persist`` that of the call before if
    its options were the same."""
    same = before is not None and _kept(before.config) == _kept(config)
    tracking = before if before is not None and persist and same else Tracking(config)
    tracking.persist = persist
    return tracking


def _kept(config: TrackConfig) -> tuple[object, ...]:
    return (
        config.tracker, config.per_class, config.track_high_thresh, config.new_track_thresh,
        config.track_buffer, config.trail,
    )  # fmt: skip


class Trails:
    """Where the objects of the last ``length`` frames have been."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._points: dict[int, deque[tuple[float, float]]] = {}
        self._seen: dict[int, int] = {}
        self._now = 0

    def add(self, ids: np.ndarray, boxes: np.ndarray) -> dict[int, np.ndarray]:
        """The trail [P,2] of each track of a new frame: centers of its boxes, the newest last.

        ids: [T].  boxes: [T,4] xyxy.
        """
        if not self._length:
            return {}
        self._now += 1
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        for number, (x, y) in zip(ids.tolist(), centers.tolist(), strict=True):
            self._points.setdefault(number, deque(maxlen=self._length)).append((x, y))
            self._seen[number] = self._now
        for number in [n for n, last in self._seen.items() if last <= self._now - self._length]:
            del self._points[number], self._seen[number]
        return {number: np.array(self._points[number], np.float32) for number in ids.tolist()}


def as_video(results: Iterable[Results], path: Path, fps: float | None) -> Iterator[Results]:
    """Results of images as those of the frames of one video, called ``path``."""
    for number, result in enumerate(results):
        if result.frame is None:
            result.source = replace(result.source, path=path, frame=number, fps=fps)
        yield result
