"""Our tracks are those of the library driven by hand, for every tracker; memory is bounded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rows import each
from tracks import needs_trackers, options, result
from yolodet import cli
from yolodet.datasets.images.image import read_image
from yolodet.detector.options.track import TRACKERS
from yolodet.detector.track.measure import measure
from yolodet.detector.track.mot import find_sequences, read_rows, xyxy_of
from yolodet.detector.track.tracker import LibraryTracker, library_tracker
from yolodet.detector.track.tracking import Tracking

pytestmark = needs_trackers


@each("name", TRACKERS)
def test_tracks_of_the_true_boxes_are_those_of_the_library(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["track", f"data={videos}", "boxes=gt", f"tracker={name}", "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)["result"]
    sequences = find_sequences(str(videos))
    files = {s.name: by_hand(s, name, tmp_path / f"{s.name}.txt") for s in sequences}
    theirs = measure(sequences, files)
    for metric, value in theirs["all"].items():
        assert ours["all"][metric] == pytest.approx(value, abs=1e-6), metric
    assert ours["all"]["HOTA"] > 0.5 and ours["images"] == 120
    assert json.loads(Path(ours["folder"], "metrics.json").read_text())["all"] == ours["all"]


def by_hand(sequence, name: str, path: Path) -> Path:  # type: ignore[no-untyped-def]
    """The tracks of the library's own tracker on the true boxes, as a file."""
    import supervision

    tracker = library_tracker(options(tracker=name), sequence.fps)
    rows = read_rows(sequence.truth)
    lines = []
    for number, image in enumerate(sorted(sequence.images.iterdir()), 1):
        mine = rows[(rows[:, 0] == number) & (rows[:, 6] == 1)]
        given = supervision.Detections(
            xyxy=xyxy_of(mine).astype(np.float32), confidence=np.ones(len(mine), np.float32)
        )
        frame = {"frame": read_image(image)[:, :, ::-1].copy()} if name == "botsort" else {}
        found = tracker.update(given, **frame)
        for (x1, y1, x2, y2), i in zip(found.xyxy.tolist(), found.tracker_id, strict=True):
            if i >= 0:
                lines.append(f"{number},{i},{x1},{y1},{x2 - x1},{y2 - y1},1,1,-1\n")
    path.write_text("".join(lines))
    return path


def test_per_class_tracks_never_change_their_class() -> None:
    still = [[10, 10, 30, 30]]
    for per_class, ids in ((False, {1}), (True, {1, 2})):
        tracking = Tracking(options(per_class=per_class))
        found = []
        for frame in range(12):
            update = tracking.update(result(still, labels=[int(frame >= 6)], frame=frame))
            found += [(i, c) for i, c in zip(update.boxes.id, update.boxes.cls, strict=True)]
        assert {int(i) for i, _ in found} == ids == set(range(1, tracking.count + 1))
        if per_class:
            assert len({(int(i), int(c)) for i, c in found}) == 2


def test_a_weak_detection_continues_a_track_and_starts_none() -> None:
    tracking = Tracking(options())
    scores = [0.15, 0.15, 0.15, 0.9, 0.9, 0.15, 0.15]
    found = [
        len(tracking.update(result([[10, 10, 30, 30]], scores=[score], frame=frame)))
        for frame, score in enumerate(scores)
    ]
    assert found == [0, 0, 0, 0, 1, 1, 1]


def test_memory_of_a_tracker_is_bounded_over_hours() -> None:
    tracker = LibraryTracker(options(track_buffer=5, per_class=True), 30.0)
    image = np.zeros((4, 4, 3), np.uint8)
    for frame in range(1500):  # every third frame the object is another one, elsewhere
        at = 60.0 * (frame // 3)
        boxes = np.array([[at, 0, at + 20, 20]], np.float32)
        tracker.update(boxes, np.array([0.9]), np.array([frame // 3 % 2]), image)
    assert tracker.count == 500
    assert len(tracker._ids) < 10
    assert sum(len(each.tracks) for each in tracker._trackers.values()) < 10
