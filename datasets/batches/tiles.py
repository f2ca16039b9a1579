"""The tiles of large images as samples: which there are, their boxes, and their pixels.

An object that the edge of a tile cuts is kept, cut to the tile, where a quarter of its area is
inside or where it fills a quarter of the tile.  Else the tile shows it without a box.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..augment.transforms import clip_boxes
from ..formats.record import Record
from ..images.cache import ImageCache
from ..images.image import ImageError, read_image, resize_to
from ..images.tiling import Rectangle, Tiling

KEPT_SHARE = 0.25
"""Share of an object, or of the tile, from which a cut object is kept."""


@dataclass(frozen=True)
class Tiles:
    """Where the samples of a split lie in its images.

    owners: [T] int64, ascending, the image that a tile is of.  places: [T,4] int64, x0, y0, x1, y1.
    sizes: (h, w) of the images.
    """

    owners: np.ndarray
    places: np.ndarray
    sizes: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.owners)

    def place(self, number: int) -> Rectangle:
        """Where a tile lies in its image."""
        x0, y0, x1, y1 = self.places[number].tolist()
        return x0, y0, x1, y1

    def of_image(self, owner: int) -> range:
        """The tiles of an image."""
        first, stop = np.searchsorted(self.owners, (owner, owner + 1)).tolist()
        return range(first, stop)

    def only(self, numbers: np.ndarray) -> Tiles:
        """Some of the tiles.  numbers: ascending."""
        return replace(self, owners=self.owners[numbers], places=self.places[numbers])


def lay(records: Sequence[Record], tiling: Tiling) -> Tiles:
    """All tiles of images."""
    found = [tiling.of(record.size) for record in records]
    owners = np.repeat(np.arange(len(found)), [len(places) for places in found])
    places = np.array([place for places in found for place in places], np.int64).reshape(-1, 4)
    return Tiles(owners, places, [record.size for record in records])


def parts(records: Sequence[Record], tiles: Tiles) -> list[Record]:
    """Tiles as records of their own."""
    pairs = enumerate(tiles.owners.tolist())
    return [_part(records[owner], tiles.place(number)) for number, owner in pairs]


def cut(records: Sequence[Record], tiling: Tiling) -> tuple[list[Record], Tiles]:
    """All tiles of images as records of their own, and where they lie."""
    tiles = lay(records, tiling)
    return parts(records, tiles), tiles


def _part(record: Record, place: Rectangle) -> Record:
    """The record of a tile."""
    x0, y0, x1, y1 = place
    size = (y1 - y0, x1 - x0)
    if size == record.size:
        return record
    shown = clip_boxes(record.boxes, place)
    sides = (shown[:, 2:] - shown[:, :2]).clip(min=0)
    areas = (record.boxes[:, 2:] - record.boxes[:, :2]).prod(1)
    enough = sides.prod(1) >= KEPT_SHARE * np.minimum(areas, size[0] * size[1])
    part = record.chosen(enough & (sides > 0).all(1))
    boxes = shown[enough & (sides > 0).all(1)] - np.array((x0, y0, x0, y0), np.float32)
    return replace(part, size=size, boxes=boxes.astype(np.float32), area=None)


def sample_empty(records: Sequence[Record], rate: float, seed: int) -> np.ndarray:
    """The numbers of the tiles to train on, ascending: all with an object, and ``rate`` times as
    many of the others, drawn by the seed.  Where no tile has an object: all."""
    filled = np.array([len(record.without_crowd().labels) > 0 for record in records])
    empty = np.flatnonzero(~filled)
    count = min(len(empty), round(rate * filled.sum()))
    if not filled.any():
        return empty
    drawn = np.random.default_rng((seed, len(records))).permutation(empty)[:count]
    return np.sort(np.concatenate((np.flatnonzero(filled), drawn)))


class TileReader:
    """Decodes images and cuts tiles out of them, for many threads.

    The image that was decoded last stays, since its other tiles are often wanted next; and what is
    decoded goes into the cache with its other tiles, so that no image is decoded again for each.
    Nor is an image that cannot be read.
    """

    def __init__(self, tiles: Tiles, cache: ImageCache, pixels: str) -> None:
        self._tiles = tiles
        self._cache = cache
        self._pixels = pixels
        self._last: tuple[int, np.ndarray] | None = None
        self._broken: dict[int, str] = {}
        self._guard = threading.Lock()
        self._locks: dict[int, threading.Lock] = {}

    def read(self, number: int, path: Path, listen: bool) -> np.ndarray:
        """A tile [h,w,3] uint8 RGB, scaled to the size of the cache.  Raises ImageError."""
        owner = int(self._tiles.owners[number])
        with self._guard:
            lock = self._locks.setdefault(owner, threading.Lock())
        with lock:  # a second thread waits for the image instead of decoding it too
            last = self._last
            if last is not None and last[0] == owner:
                return self._cut(last[1], number)
            if (known := self._cache.get(number)) is not None:
                return known
            if owner in self._broken:
                raise ImageError(self._broken[owner])
            try:
                image = self._decode(path, owner, listen)
            except ImageError as error:
                self._broken[owner] = str(error)
                raise
            self._last = (owner, image)
            for other in self._tiles.of_image(owner):
                if other != number and self._cache.has_place(other):
                    self._cache.put(other, self._cut(image, other))
            return self._cut(image, number)

    def _cut(self, image: np.ndarray, number: int) -> np.ndarray:
        x0, y0, x1, y1 = self._tiles.place(number)
        return resize_to(image[y0:y1, x0:x1], self._cache.input.whole)

    def _decode(self, path: Path, owner: int, listen: bool) -> np.ndarray:
        image = read_image(path, listen=listen, pixels=self._pixels)
        size = self._tiles.sizes[owner]
        if image.shape[:2] != size:
            raise ImageError(
                f"{path}: is {image.shape[1]} x {image.shape[0]} px, was {size[1]} x {size[0]} "
                "when the data set was scanned; scan it again"
            )
        return image

    def __getstate__(self) -> dict[str, Any]:
        return {"tiles": self._tiles, "cache": self._cache, "pixels": self._pixels}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
