"""Several cameras or streams: one frame of each in turn, each into its own video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from exports import make_image, make_run
from yolodet.cli import main
from yolodet.detector.predict import sources
from yolodet.detector.predict.sources import SourceError, open_source
from yolodet.detector.predict.video import VideoError

LENGTHS = {0: 3, 1: 5, "rtsp://one/live": 2, "rtsp://two/live": 2, 7: -1}
"""Camera or address -> its frames; -1: it cannot be opened."""
closed: list[Any] = []


class Camera:
    """A VideoReader of frames whose brightness is their number."""

    fps, total = 5.0, None

    def __init__(self, address: Any, *, shown: str | None = None) -> None:
        self.address = address
        if LENGTHS[address] < 0:
            raise VideoError(f"{shown}: cannot be opened")

    def frames(self, stride: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        for number in range(0, LENGTHS[self.address], stride):
            yield number, make_image((64, 96), number)

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        closed.append(self.address)


@pytest.fixture(autouse=True)
def cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "VideoReader", Camera)
    closed.clear()


def order(source: Any, **words: Any) -> list[tuple[str, int | None]]:
    return [(frame.path.name, frame.frame) for frame in open_source(source, **words)]


def test_frames_come_in_turn_until_each_stream_ends() -> None:
    found = order("0,1")
    assert found[:6] == [(f"camera-{i % 2}", i // 2) for i in range(6)]
    assert found[6:] == [("camera-1", 3), ("camera-1", 4)] and closed == [0, 1]
    one_by_one = order("0,1", at_once=False)
    assert [name for name, _ in one_by_one] == ["camera-0"] * 3 + ["camera-1"] * 5


def test_a_camera_that_fails_is_skipped_and_strict_stops() -> None:
    told: list[str] = []
    assert [name for name, _ in order("0,7,1", on_warning=told.append)].count("camera-1") == 5
    assert told == ["skipped: camera-7: cannot be opened"]
    with pytest.raises(SourceError, match="camera-7"):
        order("0,7,1", strict=True)
    stream = iter(open_source("0,1"))
    next(stream)
    closed.clear()
    stream.close()
    assert closed == [0], "what was opened is closed"


def test_each_stream_gets_its_own_whole_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path, monkeypatch)
    Path("yard.streams").write_text("rtsp://one/live\nrtsp://two/live\n")
    assert main(["predict", "source=yard.streams", "device=cpu", "batch=2"]) == 0
    videos = sorted(Path("runs/predict").iterdir())
    assert [path.name for path in videos] == ["live-2.mp4", "live.mp4"]
    assert main(["predict", "source=0,1", "device=cpu", "save_json=True"]) == 0
    counts = {
        path.stem: cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)
        for path in Path("runs/predict-2").glob("*.mp4")
    }
    assert counts == {"camera-0": 3, "camera-1": 5}
