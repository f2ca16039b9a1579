"""Where images to predict on come from: one ``Source`` of Frames whatever the user named.

A string is, in this order: a file or folder that exists, several sources separated by commas, a
camera number, a URL, a glob pattern.  (A comma inside a URL is written %2C, a folder called 0 is
written ./0.)  A .txt file lists one image, video or URL a line.  Python callers may also pass
NumPy images [H,W,3] uint8 RGB, and lists of anything.

What is named is looked up at once (``locate.py``); images and frames are decoded one at a time
while iterating.  A lone source that can not be read is an error; one among several is reported to
``on_warning`` and passed over, unless not one of them can be read.

Left out: tensors, screens, and web sites that play videos.
"""

from __future__ import annotations

import base64
import http.client
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import numpy as np

from ...datasets.images.image import ImageError, read_image
from ...datasets.sets.listing import IMAGE_SUFFIXES
from .locate import Item, SourceError, locate
from .video import VideoError, VideoReader

__all__ = ["Frame", "Source", "SourceError", "open_source"]

URL_TIMEOUT = 5.0
"""Seconds to wait for a server, at the start and for each next piece."""
URL_LIMIT = 64 * 2**20
"""Largest image to download, in bytes."""


@dataclass(frozen=True)
class Frame:
    """One image to predict on.

    image: [H,W,3] uint8 RGB.  path: the file, or a name for what has none.  frame: number in the
    video from 0, None for still images.  fps: frames a second as they come here (stride counted
    in), None where unknown.  total: frames in the video, None where unknown.
    """

    image: np.ndarray
    path: Path
    frame: int | None = None
    fps: float | None = None
    total: int | None = None


class Source:
    """Frames of everything that was named, in order.  Iterate as often as you like.

    ``len`` is the number of frames to come where that is known (a video's own count may be off by
    a few); for cameras, streams and URLs it raises TypeError and ``total`` is None.
    """

    def __init__(
        self, items: list[Item], vid_stride: int, on_warning: Callable[[str], None]
    ) -> None:
        self._items = items
        self._stride = vid_stride
        self._warn = on_warning

    @property
    def total(self) -> int | None:
        """Frames to come, None where unknown.  Videos are opened to ask them."""
        counts = [self._count(item) for item in self._items]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def __len__(self) -> int:
        total = self.total
        if total is None:
            raise TypeError("the number of frames of a camera, stream or URL is not known")
        return total

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Frame]:
        """Raises SourceError for a lone source that can not be read, or if none of many can."""
        read = 0
        for item in self._items:
            try:
                for frame in self._frames(item):
                    read += 1
                    yield frame
            except (ImageError, VideoError, SourceError) as error:
                if len(self._items) == 1:
                    raise SourceError(str(error)) from error
                self._warn(f"skipped: {error}")
        if not read:
            raise SourceError(f"none of the {len(self._items)} sources can be read")

    def _count(self, item: Item) -> int | None:
        if item.kind in ("image", "array"):
            return 1
        if item.kind != "video":
            return None
        try:
            with VideoReader(item.address) as video:
                return None if video.total is None else -(-video.total // self._stride)
        except VideoError:  # is reported when its turn comes
            return 0

    def _frames(self, item: Item) -> Iterator[Frame]:
        if item.kind == "image":
            yield Frame(read_image(item.address), item.path)
        elif item.kind == "array":
            yield Frame(item.address, item.path)
        elif item.kind == "url" and (image := _download(item)) is not None:
            yield Frame(image, item.path)
        else:
            yield from self._video(item)

    def _video(self, item: Item) -> Iterator[Frame]:
        with VideoReader(item.address, shown=item.shown) as video:
            fps = video.fps / self._stride if video.fps else None
            number = -1
            for number, image in video.frames(self._stride):
                yield Frame(image, item.path, number, fps, video.total)
            if number < 0:
                raise VideoError(f"{item.shown}: no frame can be decoded")
            if video.total and number + self._stride < 0.9 * video.total:
                self._warn(f"{item.shown}: ends after frame {number + 1} of {video.total}")


def open_source(
    source: Any, *, vid_stride: int = 1, on_warning: Callable[[str], None] | None = None
) -> Source:
    """Look up everything that ``source`` names; the head of this file says what it may be.

    source: str, Path, int (a camera), NumPy image [H,W,3] uint8 RGB, or a list of those.
    vid_stride: use every so many frames of videos.  on_warning: is told of what is passed over
    while iterating; by default a Python warning.
    Raises SourceError for what does not exist, holds no image, or is nothing of the above.
    """
    if vid_stride < 1:
        raise ValueError(f"vid_stride is {vid_stride}: expected 1 or more")
    return Source(locate(source), vid_stride, on_warning or _python_warning)


def _python_warning(message: str) -> None:
    warnings.warn(message, stacklevel=3)


def _download(item: Item) -> np.ndarray | None:
    """The image at a web address, decoded as a file would be; None where something else is there.

    An address that ends like an image must hold one; of others the server says what they are.
    """
    try:
        with urllib.request.urlopen(_request(item.address), timeout=URL_TIMEOUT) as answer:
            is_image = answer.headers.get_content_maintype() == "image"
            if not is_image and item.path.suffix.lower() not in IMAGE_SUFFIXES:
                return None
            data = answer.read(URL_LIMIT + 1)
    except urllib.error.HTTPError as error:
        raise SourceError(f"{item.shown}: the server says {error.code} {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise SourceError(f"{item.shown}: can not be downloaded ({reason})") from None
    if len(data) > URL_LIMIT:
        raise SourceError(f"{item.shown}: larger than {URL_LIMIT // 2**20} MiB; not downloaded")
    return _decode(data, item.shown)


def _request(url: str) -> urllib.request.Request:
    """A GET of the address; a user and password in it go into the header, for this host only."""
    parts = urlsplit(quote(url, safe="%/:=&?~#+!$,;'@()*[]"))  # blanks and accents may be typed
    user, _, host = parts.netloc.rpartition("@")
    plain = parts._replace(netloc=host, fragment="").geturl()
    request = urllib.request.Request(plain, headers={"User-Agent": "yolodet"})
    if user:
        token = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _decode(data: bytes, shown: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:  # one decoder and EXIF rule: that of files
        file = Path(folder) / "download"
        file.write_bytes(data)
        try:
            return read_image(file)
        except ImageError as error:
            reason = str(error).removeprefix(f"{file}: ")
            raise SourceError(f"{shown}: {reason}") from None
