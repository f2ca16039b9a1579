"""Drawn videos: the same bytes from a seed, boxes where things are, objects that hide others."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from yolodet import cli
from yolodet.datasets.drawn.shapes import ShapesError
from yolodet.datasets.drawn.videos import SEEN, draw_video
from yolodet.detector.track.mot import find_sequences, read_rows


def test_a_seed_gives_the_same_frames_and_a_longer_video_begins_like_a_shorter_one() -> None:
    short, long = list(draw_video(3, 0, 4, 96, 5)), list(draw_video(3, 0, 8, 96, 5))
    for one, other in zip(short, long[:4], strict=True):
        assert (one.image == other.image).all() and (one.boxes == other.boxes).all()
    assert (next(draw_video(4, 0, 1, 96, 5)).image != short[0].image).any()
    with pytest.raises(ShapesError, match="size"):
        next(draw_video(0, 0, 1, 8))


def test_objects_move_cross_and_are_hidden(videos: Path) -> None:
    for sequence in find_sequences(str(videos)):
        rows = read_rows(sequence.truth)
        assert sequence.size == (120, 160) and sequence.length == 60 and sequence.fps == 25
        assert len(list(sequence.images.iterdir())) == 60 == rows[:, 0].max()
        assert (rows[:, 4:6] > 0).all() and (rows[:, 2:4] >= 0).all()
        assert ((rows[:, 2:4] + rows[:, 4:6]) <= (160, 120)).all()
        assert ((rows[:, 8] >= SEEN) == (rows[:, 6] == 1)).all()
        hidden = [rows[(rows[:, 1] == i), 6].min() == 0 for i in np.unique(rows[:, 1])]
        assert any(hidden)


def test_a_box_is_around_what_was_drawn() -> None:
    first, second = list(draw_video(0, 1, 2, 160, 1))
    (x1, y1, x2, y2), other = first.boxes[0].astype(int).tolist(), second.boxes[0].astype(int)
    changed = (first.image != second.image).any(2)
    top, left = min(y1, other[1]), min(x1, other[0])
    inside = np.zeros_like(changed)
    inside[top - 2 : max(y2, other[3]) + 2, max(left - 2, 0) : max(x2, other[2]) + 2] = True
    assert changed.any() and not changed[~inside].any()


def test_the_command_writes_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "videos", "n=1", "frames=3", "imgsz=96", "out=v"]) == 0
    assert cv2.imread("v/video-01/img1/000003.jpg").shape == (72, 96, 3)
    assert Path("v/classes.txt").read_text().split() == ["kite", "banana", "pizza", "clock"]
    assert cli.main(["data", "videos", "n=1", "frames=3", "out=v"]) == 2
