"""Our tracks are those of the library driven by hand, for every tracker; memory is bounded."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from rows import each
from tracks import needs_trackers, options, result
from yolodet import cli
from yolodet.detector.options.track import TRACKERS
from yolodet.detector.track.measure import measure
from yolodet.detector.track.mot import find_sequences, read_rows
from yolodet.detector.track.tracker import LibraryTracker
from yolodet.detector.track.tracking import Tracking

pytestmark = needs_trackers
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@each(("name", "boxes"), [(name, boxes) for name in TRACKERS for boxes in ("gt", "det")])
def test_tracks_are_those_of_the_library_row_by_row(
    noisy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    boxes: str,
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import by_library
    import tracking

    monkeypatch.chdir(tmp_path)
    assert cli.main(["track", f"data={noisy}", f"boxes={boxes}", f"tracker={name}", "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)["result"]
    sequences = find_sequences(str(noisy))
    files = {}
    for sequence in sequences:
        found = read_rows(Path(ours["folder"], "mot", f"{sequence.name}.txt"))
        drive = by_library.tracker(name, 25.0, **by_library.VALUES[name])
        theirs = drive(tracking.frames_of(sequence, boxes))
        assert numbered_from_one(found)
        np.testing.assert_allclose(in_order(found), in_order(theirs), 1e-7, 1e-6)
        files[sequence.name] = tmp_path / f"{sequence.name}.txt"
        np.savetxt(files[sequence.name], theirs, "%.17g", ",")
    for metric, value in measure(sequences, files)["all"].items():
        assert ours["all"][metric] == pytest.approx(value, abs=1e-6), metric
    assert ours["all"]["HOTA"] > (0.5 if boxes == "gt" else 0.2) and ours["images"] == 40
    assert json.loads(Path(ours["folder"], "metrics.json").read_text())["all"] == ours["all"]


def numbered_from_one(rows: np.ndarray) -> bool:
    return set(rows[:, 1]) == set(range(1, int(rows[:, 1].max()) + 1))


def in_order(rows: np.ndarray) -> np.ndarray:
    """Frame, number of the track in the order of appearance, and box; sorted."""
    first: dict[float, int] = {}
    rows = rows[np.lexsort((rows[:, 3], rows[:, 2], rows[:, 0]))][:, :6].copy()
    rows[:, 1] = [first.setdefault(number, len(first)) for number in rows[:, 1].tolist()]
    return rows


def test_per_class_tracks_never_change_their_class() -> None:
    still = [[10, 10, 30, 30]]
    for per_class, ids in ((False, {1}), (True, {1, 2})):
        follow = Tracking(options(per_class=per_class))
        found = []
        for frame in range(12):
            update = follow.update(result(still, labels=[int(frame >= 6)], frame=frame))
            found += [(i, c) for i, c in zip(update.boxes.id, update.boxes.cls, strict=True)]
        assert {int(i) for i, _ in found} == ids == set(range(1, follow.count + 1))
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


@each("name", TRACKERS)
def test_memory_of_a_tracker_is_bounded_over_hours(name: str) -> None:
    words = {"track_buffer": 5, "per_class": True, "tracker": name}
    tracker = LibraryTracker(options(**words), 30.0)
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    sizes = []
    for frame in range(300):  # one object stays, the other is a new one every fourth frame
        at = 60.0 * (frame // 4)
        boxes = np.array([[at, 0, at + 20, 20], [0, 300, 20 + frame % 2, 320]], np.float32)
        labels = np.array([frame // 4 % 2, 0])
        tracker.update(boxes, np.array([0.9, 0.9]), labels, image)
        if frame % 100 == 99:
            sizes.append(len(pickle.dumps((tracker._trackers, tracker._ids))))
    assert tracker.count >= 75 and len(tracker._ids) < 15
    assert sum(len(each.tracks) for each in tracker._trackers.values()) < 15
    assert max(sizes[1:]) < 1.05 * sizes[0], sizes


def test_a_lost_track_is_kept_as_long_in_seconds_at_any_frame_rate() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    box, label = np.array([[10, 10, 30, 30]], np.float32), np.array([0])
    for fps, tracks in ((30.0, 1), (10.0, 2), (None, 1)):  # hidden for 15 frames: 0.5 and 1.5 s
        tracker = LibraryTracker(options(), fps)
        for seen in (True,) * 5 + (False,) * 15 + (True,) * 5:
            rows = slice(0, int(seen))
            tracker.update(box[rows], np.array([0.9])[rows], label[rows], image)
        assert tracker.count == tracks, fps
