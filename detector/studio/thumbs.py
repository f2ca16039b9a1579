"""Small pictures of images, made when they are asked for or just before, and kept in the cache
folder under the name, size and time of change of the image."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ...datasets.images.header import read_header
from ...datasets.images.image import JPEG, MOST_PIXELS, REDUCED, orient, read_image, resize_to
from ...files.atomic import write_bytes
from ...files.errors import DetError
from ...files.folders import cache_folder
from ...files.regular import read_regular

SIDE = 320
"""Longer side of a small picture in pixels."""
LARGE = 2048
"""Longer side of a picture that fills the screen."""
QUALITY = 80
MOST_BYTES = 1 << 30
"""Small pictures that are kept; the oldest go first."""
MOST_WAITING = 2000
PAUSE = 0.2
"""Seconds after a picture was asked for until the next pages go on: the page that somebody waits
for gets the processor cores."""


def small_picture(path: Path) -> bytes:
    """A JPEG with the longer side at SIDE.  Raises ImageError and OSError."""
    file = _place(path)
    with contextlib.suppress(OSError):
        return read_regular(file)
    picture = encode(_decoded(path), SIDE)
    with contextlib.suppress(OSError):  # a full disk is no reason to show nothing
        write_bytes(file, picture)
    return picture


def large_picture(path: Path) -> bytes:
    """A JPEG of an image, scaled down to LARGE where it is larger.  Raises ImageError."""
    return encode(read_image(path), LARGE)


def encode(image: np.ndarray, side: int) -> bytes:
    """JPEG of [H,W,3] RGB, scaled down to ``side`` where it is larger."""
    if max(image.shape[:2]) > side:
        image = resize_to(image, side)
    flags = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)[1].tobytes()


def _place(path: Path) -> Path:
    about = os.stat(path)
    key = f"{path}\0{about.st_size}\0{about.st_mtime_ns}\0{SIDE}"
    name = hashlib.sha256(os.fsencode(key)).hexdigest()[:32]
    return cache_folder() / "studio" / name[:2] / f"{name}.jpg"


def _decoded(path: Path) -> np.ndarray:
    """[H,W,3] RGB; a JPEG is decoded at the size that is just large enough."""
    data = read_regular(path)
    header = read_header(io.BytesIO(data)) if data.startswith(JPEG) else None
    if header is None or header.height * header.width > MOST_PIXELS:
        return read_image(path)
    spare = max(header.height, header.width) // SIDE
    by = max(by for by in REDUCED if by == 1 or by <= spare)
    flags = REDUCED[by] | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        return read_image(path)  # its error says what is wrong
    return orient(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), header.orientation)


class Ahead:
    """Makes the small pictures of the next pages in the background."""

    def __init__(self) -> None:
        self._waiting: queue.LifoQueue[Path | None] = queue.LifoQueue(MOST_WAITING)
        self._ended = False
        self._asked = 0.0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def soon(self, paths: Sequence[Path]) -> None:
        """Make these next, the first one first."""
        for path in reversed(paths):
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait(path)

    def pause(self) -> None:
        """A picture is asked for: make no other ones for a moment."""
        self._asked = time.monotonic()

    def close(self) -> None:
        """End the thread after the picture that it makes."""
        self._ended = True
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join()

    def _work(self) -> None:
        trim(cache_folder() / "studio")
        while not self._ended:
            path = self._waiting.get()
            while not self._ended and time.monotonic() - self._asked < PAUSE:
                time.sleep(PAUSE / 4)
            if path is not None and not self._ended:
                with contextlib.suppress(OSError, DetError):  # said where the image is shown
                    small_picture(path)


def trim(folder: Path, most: int = MOST_BYTES) -> None:
    """Remove the oldest small pictures where all together are larger than ``most`` bytes."""
    found = []
    for file in folder.glob("*/*.jpg"):
        with contextlib.suppress(OSError):
            about = file.stat()
            found.append((about.st_mtime, about.st_size, file))
    size = sum(bytes for _, bytes, _ in found)
    for _, bytes, file in sorted(found):
        if size <= most:
            return
        with contextlib.suppress(OSError):
            file.unlink()
            size -= bytes
