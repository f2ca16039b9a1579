"""Images that belong together: copies, near-copies, and versions that a tool made of one picture.

Near-copies are found by a difference hash (17x16 gray pixels, one bit per pair of neighbors; Neal
Krawetz, "Kind of Like That", 2013) and confirmed on 32x32 gray pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from ..images.depth import AUTO, to_8_bits
from ..images.header import bit_depth
from ..sets.copies import picture_of

BITS = 10
"""Bits of 256 by which the hashes of near-copies may differ."""
BANDS = BITS + 1
"""Parts of a hash: two hashes that differ in BITS bits are equal in one of them at least."""
GRAY_LEVELS = 10.0
"""Difference, apart from brightness, that 99 % of 32x32 gray pixels of near-copies keep to.  A
piece that was moved in front of a fixed camera differs by more."""
THREADS = 4
GRAY_OF_ANY_DEPTH = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH

Progress = Callable[[int, int], None]


def group_images(paths: Sequence[Path], on_progress: Progress | None = None) -> list[int]:
    """A number per image; those with the same number show the same picture.

    They have the same source by their names (``cat_jpg.rf.0a1b.jpg``, as Roboflow names what it
    augments), or look alike.  An image that cannot be decoded is in a group of its own.
    """
    groups = _Groups(len(paths))
    pictures: dict[str, int] = {}
    for number, path in enumerate(paths):
        picture = picture_of(path.name)
        if picture is not None:
            groups.join(number, pictures.setdefault(picture, number))
    with ThreadPoolExecutor(THREADS) as pool:
        looks = []
        for number, look in enumerate(pool.map(_look, paths), 1):
            looks.append(look)
            if on_progress is not None:
                on_progress(number, len(paths))
    for first, second in _alike(looks):
        groups.join(first, second)
    return groups.numbers()


class _Groups:
    """Sets of numbers that are joined step by step (a disjoint-set forest)."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def find(self, number: int) -> int:
        """The member that stands for the group."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def join(self, a: int, b: int) -> None:
        """Make the groups of both one."""
        self._parents[max(self.find(a), self.find(b))] = min(self.find(a), self.find(b))

    def numbers(self) -> list[int]:
        """The group of each number."""
        return [self.find(number) for number in range(len(self._parents))]


def _look(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Hash [256] of 0 and 1, and 32x32 gray pixels; None for an image that cannot be decoded."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    deep = bit_depth(data.data) > 8  # its high 8 bits may all be 0
    flags = GRAY_OF_ANY_DEPTH if deep else cv2.IMREAD_REDUCED_GRAYSCALE_2
    gray = cv2.imdecode(data, flags) if len(data) else None
    if gray is None:
        return None
    gray = to_8_bits(gray, AUTO)
    small = cv2.resize(gray, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int16)
    pixels = cv2.resize(gray, (32, 32), interpolation=cv2.INTER_AREA)
    return (small[:, 1:] > small[:, :-1]).ravel().astype(np.uint8), pixels


def _alike(looks: Sequence[tuple[np.ndarray, np.ndarray] | None]) -> Iterator[tuple[int, int]]:
    """Pairs of near-copies; of many in a row only as many as join them."""
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for number, look in enumerate(looks):
        if look is None:
            continue
        joined: set[int] = set()
        for band, part in enumerate(np.array_split(look[0], BANDS)):
            bucket = buckets[band, part.tobytes()]
            for other in bucket:
                if other not in joined and _same(look, looks[other]):
                    joined.add(other)
                    yield other, number
            if not joined:  # a copy of one that is listed would be found through it
                bucket.append(number)


def _same(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray] | None) -> bool:
    if b is None or np.count_nonzero(a[0] != b[0]) > BITS:
        return False
    difference = a[1].astype(np.float32) - b[1]
    return float(np.percentile(np.abs(difference - difference.mean()), 99)) <= GRAY_LEVELS
