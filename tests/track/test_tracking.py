"""Tracks in results: which boxes stay, which frames belong together, what is drawn and written."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from tracks import Counting, options, result
from yolodet.detector.predict.results import Results
from yolodet.detector.predict.writer import Outputs, ResultWriter
from yolodet.detector.track.tracking import Tracking, Trails, as_video

TWO = [[4, 4, 20, 20], [30, 10, 50, 40]]


def tracking(persist: bool = False, **words: object) -> Tracking:
    Counting.made = 0
    return Tracking(options(**words), persist, Counting)


def test_the_boxes_of_tracks_stay_with_their_ids() -> None:
    found = tracking().update(result(TWO, labels=[1, 0], scores=[0.9, 0.2]))
    assert found.boxes.is_track and found.boxes.data.tolist() == [
        pytest.approx([4, 4, 20, 20, 1, 0.9, 1])
    ]
    assert (found.boxes.id.tolist(), found.boxes.cls.tolist()) == ([1], [1])
    empty = tracking().update(result([]))
    assert empty.boxes.is_track and empty.boxes.id.shape == (0,)


def test_an_id_is_in_summaries_rows_and_tags() -> None:
    found = tracking(trail=0).update(result(TWO))
    assert [row["track_id"] for row in found.summary()] == [1, 2]
    assert [row.split()[-1] for row in found.to_rows(True)] == ["1", "2"]
    assert found.to_mot()[1] == "1,2,30,10,20,30,0.9,1,-1"
    assert "track_id" not in result(TWO).summary()[0] and result(TWO).to_mot()[0].startswith("1,-1")
    assert json.loads(found.to_json())[0]["track_id"] == 1
    assert len(found[1]) == 1 and found[1].boxes.id.tolist() == [2]


def test_every_video_has_a_tracker_and_images_of_a_folder_are_one_video() -> None:
    frames = [("a.mp4", 0), ("a.mp4", 1), ("b.mp4", 0), ("b.mp4", 0), ("c/1.jpg", None)]
    frames += [("c/2.jpg", None), ("d/1.jpg", None)]
    every = tracking()
    made = []
    for path, frame in frames:
        every.update(result(TWO, path=path, frame=frame))
        made.append(Counting.made)
    assert made == [1, 1, 2, 3, 4, 4, 5] and every.count == 10
    kept = tracking(persist=True)
    for path, frame in frames:
        kept.update(result(TWO, path=path, frame=frame))
    assert Counting.made == 1


def test_images_become_the_frames_of_one_video() -> None:
    images = [result(TWO, path=f"s/img1/{i}.jpg", frame=None) for i in range(3)]
    video = list(as_video(images, Path("s"), 12.5))
    assert [(r.path, r.frame, r.source.fps) for r in video] == [("s", i, 12.5) for i in range(3)]


def test_trails_are_drawn_and_forgotten() -> None:
    moving = tracking(trail=3)
    found = [moving.update(result([[x, 4, x + 8, 12]], frame=x)) for x in range(0, 30, 5)][-1]
    assert found.trails[1].tolist() == [[19, 8], [24, 8], [29, 8]]
    plain = tracking(trail=0).update(result([[25, 4, 33, 12]]))
    changed = (found.draw(labels=False) != plain.draw(labels=False)).any(2)
    assert changed[8, 19:25].all() and not plain.trails


def test_memory_of_trails_is_bounded_over_hours() -> None:
    trails = Trails(5)
    for frame in range(20_000):  # a new object in every frame
        found = trails.add(np.array([frame, frame - 1]), np.zeros((2, 4)))
    assert len(trails._points) == len(trails._seen) == 6
    assert [len(points) for points in found.values()] == [1, 2]


def write(folder: Path, results: list[Results], **words: bool) -> list[str]:
    with ResultWriter(folder, Outputs(save=False, save_mot=True, **words)) as writer:
        for each in results:
            writer.write(each)
    return sorted(path.relative_to(folder).as_posix() for path in writer.paths)


def test_every_video_gets_a_file_of_its_tracks(tmp_path: Path) -> None:
    every = tracking()
    frames = [("a.mp4", 0), ("a.mp4", 1), ("x/a.mp4", 0)]
    results = [every.update(result(TWO, path=path, frame=frame)) for path, frame in frames]
    assert write(tmp_path, results, save_json=True) == [
        "mot/a-2.txt", "mot/a.txt", "predictions.json",
    ]  # fmt: skip
    rows = [line.split(",") for line in (tmp_path / "mot" / "a.txt").read_text().splitlines()]
    assert [row[:2] for row in rows] == [["1", "1"], ["1", "2"], ["2", "1"], ["2", "2"]]
    read = json.loads((tmp_path / "predictions.json").read_text())
    assert [d["track_id"] for d in read[0]["detections"]] == [1, 2]


def test_a_full_disk_leaves_no_part_of_the_tracks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, row: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "a.txt")

    monkeypatch.setattr("yolodet.detector.predict.growing.GrowingFile.append", full)
    with pytest.raises(OSError, match=r"a\.txt"):
        write(tmp_path, [tracking().update(result(TWO))])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
