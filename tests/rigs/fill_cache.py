"""What a process does that fills a part of an image cache; a spawned one imports only this."""

from __future__ import annotations

from collections.abc import Sequence

from yolodet.datasets.formats.record import Record
from yolodet.datasets.images.cache import ImageCache
from yolodet.datasets.images.image import read_image, resize_to


def fill_every_second(cache: ImageCache, records: Sequence[Record], start: int, side: int) -> None:
    for index in range(start, len(records), 2):
        assert cache.get(index) is None
        cache.put(index, resize_to(read_image(records[index].path), side))
