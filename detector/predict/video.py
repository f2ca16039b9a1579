"""Read and write videos with OpenCV; frames are RGB here.

Videos, cameras and network streams are read frame by frame, so memory stays flat.  A video is
written to a temporary file that is renamed when it is complete.  The codecs are those of OpenCV's
wheels: MPEG-4 in .mp4, or Motion JPEG in .avi if that is missing.  Sound is not copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from ...files.errors import DetError

TIMEOUT_MS = 5000
"""Limit for a network stream to open, and for each of its frames."""
CODECS = ((".mp4", "mp4v"), (".avi", "MJPG"))
"""Containers and codecs in order of preference."""
DEFAULT_FPS = 25.0
"""Frame rate of a written video if that of the source is unknown (cameras)."""


class VideoError(DetError):
    """A video that cannot be opened or written."""


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV without its own messages: our error says it in one line."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


class VideoReader:
    """Frames of a video file, a camera (its number) or a network stream (its URL).

    fps: frames per second, None if unknown.  total: frames according to the container, which may be
    off by a few; None for cameras and streams.  shown: name for messages.  Raises VideoError if
    nothing can be opened.
    """

    def __init__(self, address: Path | str | int, *, shown: str | None = None) -> None:
        self.shown = shown or str(address)
        with _quiet():
            self._capture = _open(address)
        if not self._capture.isOpened():
            self._capture.release()
            raise VideoError(f"{self.shown}: cannot be opened ({_why_closed(address)})")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if math.isfinite(fps) and 0 < fps <= 1000 else None
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.total = int(count) if isinstance(address, Path) and 0 < count < 2**31 else None

    def frames(self, stride: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        """(number from 0, image [H,W,3] uint8 RGB) of every ``stride``-th frame."""
        number = 0
        while self._capture.grab():
            if number % stride == 0:
                ok, image = self._capture.retrieve()
                if not ok:
                    return
                yield number, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            number += 1

    def close(self) -> None:
        self._capture.release()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(address: Path | str | int) -> cv2.VideoCapture:
    if isinstance(address, str):
        limits = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
        return cv2.VideoCapture(
            address, cv2.CAP_FFMPEG, [n for limit in limits for n in (limit, TIMEOUT_MS)]
        )
    return cv2.VideoCapture(address if isinstance(address, int) else str(address))


def _why_closed(address: Path | str | int) -> str:
    if isinstance(address, int):
        return "no such camera, or it is in use"
    if isinstance(address, Path):
        return "not a video that OpenCV can decode, or incomplete"
    return "no video stream there, or it cannot be decoded"


class VideoWriter:
    """Writes frames of one size to ``stem`` plus the suffix of the first codec that works.

    stem: path without suffix; its folder must exist.  fps: frames per second.  size: (height,
    width) of the frames; MPEG-4 needs even sides, so the last row or column of an odd one is
    repeated.  Raises VideoError if no codec works.
    """

    def __init__(self, stem: Path, *, fps: float | None, size: tuple[int, int]) -> None:
        self.size = size
        height, width = (side + side % 2 for side in size)
        for suffix, codec in CODECS:
            self.path = stem.with_name(stem.name + suffix)
            self._temporary = stem.with_name(f".{stem.name}.part{suffix}")
            fourcc = cv2.VideoWriter.fourcc(*codec)
            with _quiet():
                self._writer = cv2.VideoWriter(
                    str(self._temporary), fourcc, fps or DEFAULT_FPS, (width, height)
                )
            if self._writer.isOpened():
                return
            self._writer.release()
            self._temporary.unlink(missing_ok=True)
        raise VideoError(f"{self.path}: no video codec works in this OpenCV; use save=False")

    def write(self, image: np.ndarray) -> None:
        """Append one frame, [H,W,3] uint8 RGB of the writer's size."""
        if image.shape[:2] != self.size:
            raise ValueError(f"frame is {image.shape[:2]}, the video is {self.size}")
        height, width = self.size
        frame = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if height % 2 or width % 2:
            frame = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        self._writer.write(frame)

    def close(self) -> Path:
        """Finish the file and give it its name."""
        self._writer.release()
        self._temporary.replace(self.path)
        return self.path
