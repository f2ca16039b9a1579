"""Images to predict on: one ``Source`` of Frames for everything that a user can name.

A string is, in this order: a file or folder that exists, several sources separated by commas, a
camera number, the screen, a URL, a glob pattern.  (A comma inside a URL is written %2C, a folder
called 0 is written ./0.)  A .txt file lists one image, video or URL per line.  Python callers may
also pass images in memory (``arrays.py``), and lists of all of these.

Sources are looked up at once (``locate.py``); images and frames are decoded one at a time while
iterating.  A single source that cannot be read is an error; among several it is reported to
``on_warning`` and skipped, unless none of them can be read.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import numpy as np

from ...datasets.images.depth import AUTO
from ...datasets.images.image import MOST_PIXELS, ImageError, read_image
from ...datasets.sets.listing import IMAGE_SUFFIXES
from ...files.counted import counted
from ...files.deadline import Deadline
from ...files.text import one_line
from .arrays import SourceError
from .locate import STREAM_SCHEMES, Item, locate
from .pixels import stretched, to_rgb
from .screen import is_screen
from .screen_reader import ScreenReader
from .video import VideoError, VideoReader

__all__ = ["Frame", "Source", "SourceError", "open_source"]

URL_TIMEOUT = 5.0
"""Seconds to wait for a server, at the start and for every further part."""
URL_SECONDS = 60.0
"""Seconds for the whole answer."""
URL_LIMIT = 64 * 2**20
"""Largest image to download, in bytes."""


READING = (ImageError, VideoError, SourceError)
"""What a source that cannot be read raises."""


@dataclass(frozen=True)
class Frame:
    """One image to predict on.

    image: [H,W,3] uint8 RGB.  path: the file, or a name for a source without a file.  frame: number
    in the video from 0, None for images.  fps: frames per second after ``vid_stride``, None if
    unknown.  total: frames in the video, None if unknown.  in_turn: frames of other streams come
    between those of this one.
    """

    image: np.ndarray
    path: Path
    frame: int | None = None
    fps: float | None = None
    total: int | None = None
    in_turn: bool = False


class Source:
    """Frames of all items, in order.  It can be iterated many times.

    ``len`` is the number of frames if it is known (that of a video may be off by a few); for
    cameras, streams and URLs it raises TypeError and ``total`` is None.
    """

    def __init__(
        self,
        items: list[Item],
        vid_stride: int,
        on_warning: Callable[[str], None],
        rgb: bool,
        strict: bool = False,
        at_once: bool = True,
        most_pixels: int = MOST_PIXELS,
        pixels: str = AUTO,
    ) -> None:
        self._items = items
        self._most_pixels = most_pixels
        self._pixels = pixels
        self._at_once = at_once
        self._stride = vid_stride
        self._rgb = rgb
        self._warn = on_warning
        self._strict = strict

    @property
    def total(self) -> int | None:
        """Number of frames, None if unknown.  Videos are opened to find out."""
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

    def __iter__(self) -> Generator[Frame]:
        """Raises SourceError if a single source, or none of many, can be read."""
        read = 0
        frames = self._turns() if self._takes_turns() else self._one_after_another()
        with contextlib.closing(frames):  # Python 3.12.3 does not close what a closed one holds
            for frame in frames:
                read += 1
                yield frame
        if not read:
            raise SourceError(f"none of the {counted(len(self._items), 'source')} can be read")

    def _one_after_another(self) -> Generator[Frame]:
        for item in self._items:
            try:
                yield from self._frames(item)
            except READING as error:
                self._skip(error)

    def _takes_turns(self) -> bool:
        """Several cameras and streams have no end: the second one would never be seen."""
        return self._at_once and len(self._items) > 1 and all(
            item.kind == "stream" for item in self._items
        )

    def _turns(self) -> Generator[Frame]:
        """One frame of each stream in turn; what ends or fails is left out from then on."""
        names: set[str] = set()
        streams = [self._frames(replace(item, path=_distinct(item.path, names)))
                   for item in self._items]  # fmt: skip
        with contextlib.ExitStack() as stack:
            for stream in streams:
                stack.enter_context(contextlib.closing(stream))
            while streams:
                for stream in list(streams):
                    try:
                        yield replace(next(stream), in_turn=True)
                    except StopIteration:
                        streams.remove(stream)
                    except READING as error:
                        self._skip(error)
                        streams.remove(stream)

    def _skip(self, error: Exception) -> None:
        if self._strict or len(self._items) == 1:
            raise SourceError(str(error)) from error
        self._warn(f"skipped: {error}")

    def _count(self, item: Item) -> int | None:
        if item.kind in ("image", "array"):
            return 1
        if item.kind != "video":
            return None
        try:
            with VideoReader(item.address) as video:
                return None if video.total is None else -(-video.total // self._stride)
        except VideoError:  # reported when the video is read
            return 0

    def _frames(self, item: Item) -> Generator[Frame]:
        if item.kind == "image":
            most, pixels = self._most_pixels, self._pixels
            image = read_image(item.address, listen=True, most=most, pixels=pixels)
            yield Frame(image, item.path)
        elif item.kind == "array":
            yield Frame(to_rgb(item.address, self._rgb, self._pixels), item.path)
        elif item.kind == "url" and (found := _download(item, self._pixels)) is not None:
            yield Frame(found, item.path)
        else:
            yield from self._video(item)

    def _video(self, item: Item) -> Iterator[Frame]:
        is_shown = item.kind == "stream" and is_screen(item.address)
        reader: type[ScreenReader | VideoReader] = ScreenReader if is_shown else VideoReader
        with reader(item.address, shown=item.shown) as video:
            fps = video.fps / self._stride if video.fps else None
            number = -1
            for number, image in video.frames(self._stride):
                image = stretched(image, self._pixels)
                yield Frame(image, item.path, number, fps, video.total)
            if number < 0:
                raise VideoError(f"{item.shown}: no frame can be decoded")
            if video.total and number + self._stride < 0.9 * video.total:
                self._warn(f"{item.shown}: video ends after frame {number + 1} of {video.total}")
            if urlsplit(str(item.address)).scheme in STREAM_SCHEMES:
                self._warn(f"{item.shown}: the stream ended after frame {number + 1}")


def open_source(
    source: Any,
    *,
    vid_stride: int = 1,
    on_warning: Callable[[str], None] | None = None,
    rgb: bool = False,
    strict: bool = False,
    recursive: bool = False,
    at_once: bool = True,
    most_pixels: int = MOST_PIXELS,
    pixels: str = AUTO,
) -> Iterable[Frame]:
    """Look up everything that ``source`` names; the docstring of this file says what it may be.

    vid_stride: use every n-th frame of videos.  on_warning: gets a text for every source that is
    skipped; default: a Python warning.  rgb: NumPy arrays are RGB, not BGR.  strict: a source that
    cannot be read is an error, also among several.  recursive: folders inside a folder are
    searched, too.  at_once: frames of several cameras and streams come in turn, not one
    stream after the other.  most_pixels: of an image file.  pixels: how images of more than 8
    bits are read (datasets/images/depth.py).  An iterator is read as it goes, once.
    Raises SourceError if a source does not exist, holds no image or is of an unknown type.
    """
    if vid_stride < 1:
        raise ValueError(f"vid_stride is {vid_stride}: expected 1 or more")
    warn = on_warning or _python_warning
    if isinstance(source, Iterator):
        return _one_by_one(source, vid_stride, warn, rgb, strict, most_pixels, pixels)
    items = locate(source, warn, recursive)
    return Source(items, vid_stride, warn, rgb, strict, at_once, most_pixels, pixels)


def _one_by_one(
    sources: Iterator[Any], stride: int, warn: Callable[[str], None], rgb: bool, strict: bool,
    most_pixels: int,
    pixels: str,
) -> Iterator[Frame]:  # fmt: skip
    """The frames of sources that come one after the other; images in memory are numbered."""
    for number, source in enumerate(sources):
        try:
            items = locate(source, warn)
            own = Source(items, stride, warn, rgb, strict, True, most_pixels, pixels)
            with contextlib.closing(iter(own)) as frames:
                for frame in frames:
                    in_memory = frame.path.name == "array-0"
                    yield replace(frame, path=Path(f"array-{number}")) if in_memory else frame
        except SourceError as error:
            if strict:
                raise
            warn(f"skipped: {error}")


def _distinct(path: Path, taken: set[str]) -> Path:
    """``path``, or with -2, -3, ...: streams of two hosts may have one name."""
    free, number = path, 1
    while free.name in taken:
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    taken.add(free.name)
    return free


def _python_warning(message: str) -> None:
    warnings.warn(one_line(message), stacklevel=3)


def _download(item: Item, pixels: str) -> np.ndarray | None:
    """The image at a web address, decoded like a file; None if there is something else.

    An address that ends like an image must hold one; the server says what the others are.
    """
    limit = Deadline(URL_SECONDS)
    late = f"{item.shown}: cannot be downloaded (the server was not done after {URL_SECONDS:g} s)"
    try:
        with limit, limit.opener.open(_request(item.address), timeout=URL_TIMEOUT) as answer:
            is_image = answer.headers.get_content_maintype() == "image"
            if not is_image and item.path.suffix.lower() not in IMAGE_SUFFIXES:
                return None
            data = answer.read(URL_LIMIT + 1)
    except urllib.error.HTTPError as error:
        raise SourceError(f"{item.shown}: the server answers {error.code} {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        if limit.expired:
            raise SourceError(late) from None
        reason = getattr(error, "reason", error)
        raise SourceError(f"{item.shown}: cannot be downloaded ({reason})") from None
    if limit.expired:  # an answer without a length only looks shorter
        raise SourceError(late)
    if len(data) > URL_LIMIT:
        raise SourceError(f"{item.shown}: larger than {URL_LIMIT // 2**20} MiB; not downloaded")
    return _decode(data, item.shown, pixels)


def _request(url: str) -> urllib.request.Request:
    """A GET request; user and password of the address go into the header, for this host only."""
    parts = urlsplit(quote(url, safe="%/:=&?~#+!$,;'@()*[]"))  # spaces and accents may be typed
    user, _, host = parts.netloc.rpartition("@")
    plain = parts._replace(netloc=host, fragment="").geturl()
    request = urllib.request.Request(plain, headers={"User-Agent": "yolodet"})
    if user:
        token = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request


def _decode(data: bytes, shown: str, pixels: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:  # same decoder and EXIF rule as for files
        file = Path(folder) / "download"
        file.write_bytes(data)
        try:
            return read_image(file, pixels=pixels)
        except ImageError as error:
            reason = str(error).removeprefix(f"{file}: ")
            raise SourceError(f"{shown}: {reason}") from None
