"""Where the tiles of a large image lie: squares of ``side`` pixels that overlap.

The tiles of an axis are spread evenly from edge to edge, as few as give at least the overlap that
was asked for.  An axis that is no longer than a tile has one tile of its own length, so an image
that fits into a tile is one tile.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...files.counted import counted

DEFAULT_OVERLAP = 0.2
SMALLEST = 64
"""Side of the smallest tiles, in pixels."""

Rectangle = tuple[int, int, int, int]
"""x0, y0, x1, y1 in whole pixels of the image."""


@dataclass(frozen=True)
class Tiling:
    """side: of a tile, in pixels of the image.  overlap: share of the side that two neighbors have
    in common, at least."""

    side: int
    overlap: float

    def of(self, size: tuple[int, int]) -> list[Rectangle]:
        """The tiles of an image of ``size`` (h, w), row by row."""
        across, down = self._spans(size[1]), self._spans(size[0])
        return [(x0, y0, x1, y1) for y0, y1 in down for x0, x1 in across]

    def line(self, tiles: int, images: int) -> str:
        """How many tiles there are, for the log."""
        of = f"{counted(tiles, 'tile')} of {counted(images, 'image')}"
        return f"tile={self.side} overlap={self.overlap:g}: {of}"

    def _spans(self, length: int) -> list[tuple[int, int]]:
        """Start and stop of the tiles of an axis."""
        if length <= self.side:
            return [(0, length)]
        step = max(int(self.side * (1.0 - self.overlap)), 1)
        steps = -(-(length - self.side) // step)
        starts = [round(number * (length - self.side) / steps) for number in range(steps + 1)]
        return [(start, start + self.side) for start in starts]
