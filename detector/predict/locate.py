"""From what the user typed to the things it names: files, cameras, addresses, arrays.

Files are looked up here and not opened, so that a mistyped path is refused before a model is
loaded. ``sources.py`` describes what may be typed.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from ...datasets.sets.kinds import kind_of
from ...datasets.sets.listing import IMAGE_SUFFIXES
from ...files.counted import counted
from ...files.regular import read_regular
from ...files.text import without_secrets
from .arrays import SourceError, images_in, name_of
from .screen import check_screen, is_screen

PICTURE_SUFFIXES = tuple(sorted((*IMAGE_SUFFIXES, ".avif", ".heic", ".heif", ".jp2")))
VIDEO_SUFFIXES = (
    *(".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"),
)
PLAYLIST_SUFFIXES = (".m3u8", ".mjpeg", ".mjpg", ".sdp")
STREAM_SCHEMES = ("rtmp", "rtmps", "rtp", "rtsp", "rtsps", "tcp", "udp")
LIST_SUFFIXES = (".txt", ".csv", ".streams")
NO_LISTS = ("yolo", "dota", "csv", "table", "empty", "utf16", "binary")
"""Kinds of text files that are no list of sources."""
KNOWN = " ".join((*PICTURE_SUFFIXES, *VIDEO_SUFFIXES))
EXPECTED = (
    "expected an image, folder, glob pattern, list file (.txt, .csv, .streams), video, camera "
    "number, URL or screen"
)


@dataclass(frozen=True)
class Item:
    """One source.

    kind: how to read it; ``url`` is an http address of an image or a video.
    address: a Path, a URL, a camera number, or an image in memory.  path: its name in results.
    """

    kind: Literal["image", "video", "stream", "url", "array"]
    address: Any
    path: Path

    @property
    def shown(self) -> str:
        """For messages: a path, or a URL without user, password and query, which may be secret."""
        return without_secrets(self.address) if isinstance(self.address, str) else str(self.path)


@dataclass
class Look:
    """How to look: recursive also in folders inside a folder.  others: the files passed over."""

    recursive: bool = False
    others: list[Path] = field(default_factory=list)


def locate(
    source: Any, say: Callable[[str], None] | None = None, recursive: bool = False
) -> list[Item]:
    """Everything that ``source`` names, in order, at least one item.

    recursive: folders inside a folder are searched, too.  say: is told which files of a
    folder, a pattern or several words are passed over.

    Raises SourceError if it does not exist, holds no image or is no source.
    """
    look = Look(recursive)
    items = _locate(source, look)
    others = look.others
    if others and say is not None:
        shown = ", ".join(path.name for path in others[:5])
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        say(f"passed over, no image or video that det reads: {shown}{more}; known are {KNOWN}")
    if not items:
        raise SourceError(f"source names nothing: {EXPECTED}")
    for index, item in enumerate(items):
        if item.kind == "array":  # without a file it is called by its position
            items[index] = replace(item, path=name_of(item.address, f"array-{index}"))
    return items


def _locate(source: Any, look: Look) -> list[Item]:
    if isinstance(source, str):
        return _locate_text(source.strip(), look)
    if isinstance(source, Path):
        return _locate_path(_expand(str(source)), look)
    if (images := images_in(source)) is not None:
        return [Item("array", image, Path()) for image in images]
    if isinstance(source, int) and not isinstance(source, bool) and source >= 0:
        return [Item("stream", source, Path(f"camera-{source}"))]
    if isinstance(source, list | tuple):
        return [item for part in source for item in _locate(part, look)]
    shown = source if isinstance(source, int | float | None) else f"a {type(source).__name__}"
    raise SourceError(
        f"source is {shown}: {EXPECTED}, a NumPy array, a PIL image, a tensor, or a list of those"
    )


def _locate_text(text: str, look: Look) -> list[Item]:
    path = _expand(text)
    is_number = text.isascii() and text.isdigit()
    if text and not is_number and _exists(path):
        return _locate_path(path, look)
    if "," in text:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        named = [part for part in parts if len(parts) == 1 or not _is_sidecar(_expand(part))]
        if named:  # what a shell makes of folder/* may hold other files
            look.others += [_expand(part) for part in parts if part not in named]
            parts = named
        return [item for part in parts for item in _locate_text(part, look)]
    if not text:
        return []
    if is_number:
        return _locate(int(text), look)
    if is_screen(text):
        check_screen()
        return [Item("stream", text, Path("screen"))]
    if "://" in text:
        return [_url_item(text)]
    if glob.has_magic(text):
        return _locate_glob(str(path), look)
    return _locate_path(path, look)


def _expand(text: str) -> Path:
    """With ``~`` as the home folder: a shell does not expand it after ``source=``."""
    return Path(os.path.expanduser(text))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path, or a zero byte in it
        return False


def _is_sidecar(path: Path) -> bool:
    """Whether a path exists and is something else than a source: notes, labels, an empty folder."""
    if not _exists(path):
        return False
    if path.is_dir():
        return not any(_file_item(inside) for inside in path.iterdir())
    if path.suffix.lower() in LIST_SUFFIXES:
        try:
            return kind_of(path) in NO_LISTS
        except OSError:
            return True
    return _file_item(path) is None


def _locate_path(path: Path, look: Look) -> list[Item]:
    if not _exists(path):
        raise SourceError(_missing(path))
    if path.is_dir():
        return _locate_folder(path, look)
    if path.suffix.lower() in LIST_SUFFIXES:
        return _locate_list(path)
    item = _file_item(path)
    if item is None:
        lists = " ".join(LIST_SUFFIXES)
        raise SourceError(f"{path}: unknown type of file; known are {KNOWN} {lists}")
    return [item]


def _missing(path: Path) -> str:
    """What was looked for and where, and the nearest name in that folder."""
    folder = path.absolute().parent
    try:
        names = [entry.name for entry in folder.iterdir()]
    except (OSError, ValueError):
        return f"no such source: {path} (there is no folder {folder}); {EXPECTED}"
    near = difflib.get_close_matches(path.name, names, n=1)
    fix = f"did you mean {near[0]}?" if near else EXPECTED
    return f"no such source: {path} (looked in {folder}); {fix}"


def _file_item(path: Path) -> Item | None:
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return Item("image", path, path)
    return Item("video", path, path) if suffix in VIDEO_SUFFIXES else None


def _locate_folder(folder: Path, look: Look) -> list[Item]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise SourceError(f"{folder}: the folder cannot be read ({error.strerror})") from None
    if look.recursive:
        found = folder.rglob("*")
        entries = sorted(p for p in found if not _is_hidden(p.relative_to(folder)))
    files = [path for path in entries if not path.name.startswith(".") and path.is_file()]
    items = _items_of(files, look)
    if not items:
        raise SourceError(
            f"{folder}: no image or video in this folder; known are {KNOWN} "
            + ("" if look.recursive else "(folders inside are searched with recursive=True)")
        )
    return items


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _items_of(files: list[Path], look: Look) -> list[Item]:
    items = [_file_item(file) for file in files]
    look.others += [file for file, item in zip(files, items, strict=True) if item is None]
    return [item for item in items if item is not None]


def _locate_glob(pattern: str, look: Look) -> list[Item]:
    paths = map(Path, sorted(glob.glob(pattern, recursive=True)))
    files = [path for path in paths if path.is_file()]
    items = _items_of(files, look)
    if not items:
        what = f"{counted(len(files), 'file')}, none an image or video; known are {KNOWN}"
        raise SourceError(
            f"{pattern}: matches {what if files else 'nothing'} (looked from {Path.cwd()})"
        )
    return items


def _locate_list(path: Path) -> list[Item]:
    """One file or URL per line; a relative path starts at the list, or else at this folder."""
    try:
        lines = read_regular(path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read as a list of paths ({error})") from None
    named = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not named:
        raise SourceError(f"{path}: the list is empty; expected one image or video per line")
    return [_line_item(path, number, line) for number, line in named]


def _line_item(path: Path, number: int, line: str) -> Item:
    if "://" in line:
        return _url_item(line)
    places = [path.parent / line, Path(line)]
    file = next((place for place in places if _exists(place)), None)
    if file is None:
        looked = " and ".join(dict.fromkeys(str(place.absolute().parent) for place in places))
        raise SourceError(f"{path} line {number}: no such file: {line} (looked in {looked})")
    item = _file_item(file)
    if item is None:
        raise SourceError(f"{path} line {number}: {line} is no image or video; known are {KNOWN}")
    return item


def _url_item(url: str) -> Item:
    """An address to open later; no connection is made here."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise SourceError(f"source is not a valid URL: {error}") from None
    if parts.scheme not in ("http", "https", *STREAM_SCHEMES) or not host:
        known = ", ".join(f"{scheme}://" for scheme in ("http", "https", *STREAM_SCHEMES))
        raise SourceError(f"{parts.scheme}://{host or ''}: cannot be opened; known are {known}")
    web = parts.scheme in ("http", "https") and not _is_video(parts)
    name = re.sub(r"[^\w.\-]+", "_", Path(parts.path).name).strip(".")[-100:]
    return Item("url" if web else "stream", url, Path(name or host))


def _is_video(parts: SplitResult) -> bool:
    return Path(parts.path).suffix.lower() in (*VIDEO_SUFFIXES, *PLAYLIST_SUFFIXES)
