"""Read and write videos with OpenCV; frames are RGB here.

Videos, cameras and network streams are read frame by frame, so memory stays flat.  A video is
written to a temporary file that is renamed when it is complete.  The codecs are those of OpenCV's
wheels: MPEG-4 in .mp4, or Motion JPEG in .avi if that is missing.  Sound is not copied.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from ...files.atomic import naming, temporary_name
from ...files.errors import DetError

TIMEOUT_MS = 5000
"""Limit for a network stream to open, and for each of its frames; a camera that is silent for so
long has stalled."""
MOST_DELAYED = 32
"""Frames that a decoder may hold back."""
CODECS = ((".mp4", "mp4v"), (".avi", "MJPG"))
"""Containers and codecs in order of preference."""
CHECK_FRAMES = 50
"""After so many frames it is checked whether the disk is full."""
FULL_BYTES = 1 << 16
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
    nothing can be opened, and where a camera or stream stops giving frames.
    """

    def __init__(self, address: Path | str | int, *, shown: str | None = None) -> None:
        self.shown = shown or str(address)
        self._address = address
        started = time.monotonic()
        with _quiet():
            self._capture = _open(address)
        # seconds for each of the last frames: a decoder gives some more after the stream stalled
        self._waits = deque([time.monotonic() - started], maxlen=MOST_DELAYED)
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
        while self._grab():
            if number % stride == 0:
                ok, image = self._capture.retrieve()
                if not ok:
                    return
                yield number, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            number += 1

    def _grab(self) -> bool:
        """Take the next frame; False at the end.  Raises VideoError where a camera or a stream has
        stopped giving frames, which OpenCV reports like an end."""
        started = time.monotonic()
        with _quiet():
            grabbed = self._capture.grab()
        self._waits.append(time.monotonic() - started)
        if grabbed or isinstance(self._address, Path):
            return grabbed
        waited = max(self._waits)
        camera = isinstance(self._address, int)
        if waited > 0.9 * TIMEOUT_MS / 1000:
            thing = "camera" if camera else "stream"
            raise VideoError(f"{self.shown}: the {thing} has stalled: no frame for {waited:.0f} s")
        if camera:
            raise VideoError(f"{self.shown}: the camera gives no more frames; is it unplugged?")
        return False

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
        self._frames = 0
        height, width = (side + side % 2 for side in size)
        for suffix, codec in CODECS:
            self.path = stem.with_name(stem.name + suffix)
            self._temporary = temporary_name(self.path, suffix)
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
        self._frames += 1
        if self._frames % CHECK_FRAMES == 0 and _is_full(self.path.parent):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> Path:
        """Finish the file and give it its name.

        OpenCV does not say whether a frame could be written, so the file is opened again and its
        last frame decoded.  Raises OSError or VideoError, and leaves no file, where it is not
        whole.
        """
        self._writer.release()
        try:
            self._check_whole()
            with naming(self.path):
                self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)
        return self.path

    def discard(self) -> None:
        """Remove the unfinished file."""
        self._writer.release()
        self._temporary.unlink(missing_ok=True)

    def _check_whole(self) -> None:
        if _has_index(self._temporary) and self._last_frame_is_there():
            return
        if _is_full(self.path.parent):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        raise VideoError(
            f"{self.path}: the video could not be written whole ({self._frames} frames): check the "
            "space and the limits of this disk, or use save=False"
        )

    def _last_frame_is_there(self) -> bool:
        with _quiet():
            file = cv2.VideoCapture(str(self._temporary))
            count = int(file.get(cv2.CAP_PROP_FRAME_COUNT)) if file.isOpened() else 0
            file.set(cv2.CAP_PROP_POS_FRAMES, max(count - 1, 0))
            there = count >= self._frames and file.read()[0]
            file.release()
        return bool(there)


def _has_index(path: Path) -> bool:
    """Whether the index of an MP4, which is written last, is there; FFmpeg would print its own
    message.  True for other formats."""
    if path.suffix != ".mp4":
        return path.is_file()
    try:
        end = path.stat().st_size
        with path.open("rb") as file:
            start = 0
            while len(header := file.read(8)) == 8:
                size, kind = int.from_bytes(header[:4], "big"), header[4:]
                size = int.from_bytes(file.read(8), "big") if size == 1 else size  # over 4 GB
                if kind == b"moov":
                    return start + size <= end
                start = file.seek(start + max(size, 8))
    except OSError:
        pass
    return False


def _is_full(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < FULL_BYTES
