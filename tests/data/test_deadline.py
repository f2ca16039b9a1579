"""Servers that never finish: an answer has a time limit, however often another byte comes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from yolodet.detector.predict import sources
from yolodet.detector.predict.sources import SourceError, open_source
from yolodet.detector.predict.video import VideoError, VideoReader
from yolodet.files import download
from yolodet.files.download import DownloadError, download_file

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n"


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], str]]:
    """Start a server that sends some bytes, and then one more every 20 ms for 20 s."""
    over = threading.Event()
    listening = []

    def answer(connection: socket.socket, begin: bytes) -> None:
        try:
            connection.recv(4096)
            connection.sendall(begin)
            while not over.wait(0.02):
                connection.sendall(b"x")
        except OSError:
            pass
        finally:
            connection.close()

    def start(begin: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listening.append(listener)

        def accept() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection, begin), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/a.jpg"

    yield start
    over.set()
    for listener in listening:
        listener.close()


DRIPS = {
    "body": HEAD + b"Content-Length: 100000\r\n\r\n",
    "body without a length": HEAD + b"\r\n",
    "headers": HEAD + b"X: ",
    "status": b"HTTP/1.1 2",
}


@pytest.mark.parametrize("part", DRIPS)
def test_a_server_that_drips_is_given_up(
    serve: Callable[[bytes], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(sources, "URL_SECONDS", 0.3)
    monkeypatch.setattr(download, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(download, "SLOW_SECONDS", 0.3)
    url = serve(DRIPS[part])
    with pytest.raises(SourceError, match=r"the server was not done after 0\.3 s"):
        list(open_source(url))
    with pytest.raises(DownloadError, match=r"no answer within|bytes came in"):
        download_file(url, tmp_path / "file")
    assert not (tmp_path / "file").exists()


class Capture:
    """A capture of OpenCV that gives ``frames`` frames, and then waits before it gives none."""

    def __init__(self, frames: int, waits: float) -> None:
        self.left, self.waits = frames, waits

    def isOpened(self) -> bool:
        return True

    def get(self, what: int) -> float:
        return 0.0

    def grab(self) -> bool:
        self.left -= 1
        if self.left < 0:
            time.sleep(self.waits)
        return self.left >= 0

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((4, 4, 3), np.uint8)

    def release(self) -> None:
        pass


@pytest.mark.parametrize(
    ("address", "waits", "said"),
    [
        (0, 0.0, "the camera gives no more frames"),
        (0, 0.1, "the camera has stalled"),
        ("rtsp://host/1", 0.1, "the stream has stalled"),
        ("http://host/a.mp4", 0.0, None),
        (Path("a.mp4"), 0.1, None),
    ],
)
def test_a_camera_that_stalls_does_not_end_like_a_file(
    monkeypatch: pytest.MonkeyPatch, address: int | str | Path, waits: float, said: str | None
) -> None:
    monkeypatch.setattr("yolodet.detector.predict.video.TIMEOUT_MS", 100)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: Capture(2, waits))
    frames = VideoReader(address).frames()
    assert [number for number, _ in (next(frames), next(frames))] == [0, 1]
    if said is None:
        assert list(frames) == []
        return
    with pytest.raises(VideoError, match=said):
        next(frames)


@pytest.mark.parametrize("suffix", [".avi", ".ts"])  # a decoder of .ts gives frames after the wait
@pytest.mark.parametrize(("stays", "said"), [(0, "ended after frame 12"), (5, "has stalled")])
def test_a_stream_that_ends_and_one_that_stalls_are_said_differently(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str, stays: float, said: str
) -> None:
    monkeypatch.setattr("yolodet.detector.predict.video.TIMEOUT_MS", 500 if stays else 60_000)
    path = tmp_path / f"sent{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MPEG"), 10, (64, 48))
    for _ in range(12):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    over, heard, frames = threading.Event(), list[str](), 0
    with socket.create_server(("127.0.0.1", 0)) as server:

        def send() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(path.read_bytes())
                over.wait(stays)

        threading.Thread(target=send, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}/x"
        try:
            for _ in open_source(address, on_warning=heard.append):
                frames += 1
        except SourceError as error:
            heard.append(str(error))
        over.set()
    assert frames == 12 and len(heard) == 1 and said in heard[0]
