"""A batch of training images that is planned in whole pixels but not drawn yet: numbers only.

For a device that holds all images of the data set as one row of pixels, every tile is an affine
map from output pixels to places in that row.  Planning (in a loader process) needs the sizes of the
images and no pixel; drawing (device_draw.py) needs these arrays and no plan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..augment.mosaic import Tile, half
from ..augment.transforms import color_weights, hue_rotation
from ..images.cache import ImageCache
from ..nouns import Batch
from .dataset import DetectionDataset, Drawing, Key

PIXELS_AT_ONCE = 2**22
"""Output pixels that are drawn together; each takes some hundred bytes while it is drawn."""
MOST_TILES = 4
"""Tiles of an image: those of a mosaic."""


class Layout:
    """Where the pixels of a data set's kept images are in one long row.  cache: knows their sizes.

    firsts, widths: [N] int64, the place of an image's first pixel and its width.  total: pixels of
    all images; behind them is ``room`` for the halved crops of ``at_once`` outputs and for reading
    past the last pixel.
    """

    def __init__(self, cache: ImageCache) -> None:
        sizes = np.array([cache.size(index) for index in range(len(cache))], np.int64)  # [N,2]
        counts = sizes.prod(1)
        height, width = cache.input.whole
        self.firsts = np.cumsum(counts) - counts
        self.widths = np.ascontiguousarray(sizes[:, 1])
        self.total = int(counts.sum())
        self.at_once = max(PIXELS_AT_ONCE // (height * width), 1)
        self._halved = math.prod(half(width, height))
        self.room = self.at_once * MOST_TILES * self._halved + width + 2

    @property
    def bytes(self) -> int:
        """Memory of the whole row."""
        return 3 * (self.total + self.room)

    def scratch(self, output: int, tile: int) -> int:
        """First pixel of the room for the halved crop of a tile of an output."""
        return self.total + (output % self.at_once * MOST_TILES + tile) * self._halved


@dataclass(frozen=True)
class Halved:
    """A crop that is halved by area before it is drawn: ``count`` times, from the image at
    ``first`` (pixels of its crop, rows ``stride`` apart) to the room at ``to``."""

    output: int
    first: int
    stride: int
    width: int
    height: int
    count: int
    to: int


@dataclass(frozen=True)
class Layer:
    """Outputs to be drawn, N of them with T tiles each; later tiles lie on top.

    maps: [N,T,6] float32 a, b, c, d, e, f: output pixel (x, y) shows the source at
    (a x + b y + c, d x + e y + f), counted from the middle of the source's first pixel.  limits:
    [N,T,6] float32: target x0, y0, x1, y1, then the largest x and y of the source.  places: [N,T,2]
    int64: the source's first pixel in the row and the distance of its rows.  turned: some b or d is
    not zero.  halved: crops to be made first.
    """

    maps: torch.Tensor
    limits: torch.Tensor
    places: torch.Tensor
    turned: bool
    halved: list[Halved]

    def to(self, device: torch.device) -> Layer:
        """The arrays on a device."""
        return replace(
            self,
            maps=self.maps.to(device, non_blocking=True),
            limits=self.limits.to(device, non_blocking=True),
            places=self.places.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Layer:
        """Page-locked copies."""
        return replace(
            self,
            maps=self.maps.pin_memory(),
            limits=self.limits.pin_memory(),
            places=self.places.pin_memory(),
        )


@dataclass(frozen=True)
class PlannedBatch:
    """batch: all but the images, of which there are none yet.  size: (h, w) of the outputs.
    images: how each is drawn. mixed: second images to blend into those at ``mixed_into``
    (ascending); shares: [M,1,1,1] float32, the weight of the first. colors: [B,11] float32, the
    rotation of hue by rows and the weights of a channel and of the largest; colored: places of the
    images that they change.
    """

    batch: Batch
    size: tuple[int, int]
    images: Layer
    mixed: Layer
    mixed_into: list[int]
    shares: torch.Tensor
    colors: torch.Tensor
    colored: list[int]

    def pin_memory(self) -> PlannedBatch:
        """Page-locked copies (called by torch's DataLoader)."""
        return replace(
            self,
            batch=self.batch.pin_memory(),
            images=self.images.pin_memory(),
            mixed=self.mixed.pin_memory(),
            shares=self.shares.pin_memory(),
            colors=self.colors.pin_memory(),
        )


def plan_batch(
    dataset: DetectionDataset,
    layout: Layout,
    keys: Sequence[Key],
    size: tuple[int, int] | None = None,
) -> PlannedBatch:
    """Plan the samples of ``keys``: the same as ``dataset.draw`` would draw into inputs of ``size``
    (h, w); default: the whole input."""
    size = size or dataset.input.whole
    drawings = [dataset.drawing(key, size) for key in keys]
    mixed_into = [place for place, drawing in enumerate(drawings) if drawing.mixed]
    shares = np.array([drawings[place].share for place in mixed_into], np.float32)
    colors = [(*hue_rotation(d.color[0]).flat, *color_weights(*d.color[1:])) for d in drawings]
    return PlannedBatch(
        batch=_batch(dataset, drawings),
        size=size,
        images=_layer(layout, [drawing.tiles for drawing in drawings]),
        mixed=_layer(layout, [drawings[place].mixed for place in mixed_into]),
        mixed_into=mixed_into,
        shares=torch.from_numpy(shares.reshape(-1, 1, 1, 1)),
        colors=torch.from_numpy(np.array(colors, np.float32)),
        colored=[i for i, d in enumerate(drawings) if d.color != (0.0, 1.0, 1.0)],
    )


def _batch(dataset: DetectionDataset, drawings: Sequence[Drawing]) -> Batch:
    records = [dataset.facts(drawing.index) for drawing in drawings]
    counts = [len(drawing.boxes) for drawing in drawings]
    return Batch(
        images=torch.from_numpy(np.zeros((0, 3, 0, 0), np.uint8)),
        boxes=torch.from_numpy(np.concatenate([drawing.boxes for drawing in drawings])),
        labels=torch.from_numpy(np.concatenate([drawing.labels for drawing in drawings])),
        batch_index=torch.from_numpy(np.repeat(np.arange(len(drawings)), counts)),
        indices=[drawing.index for drawing in drawings],
        paths=[path for path, _ in records],
        original_sizes=[size for _, size in records],
        letterboxes=[None] * len(drawings),
    )


def _layer(layout: Layout, outputs: Sequence[Sequence[Tile]]) -> Layer:
    """With NumPy, for the reason in loader.py."""
    most = max((len(tiles) for tiles in outputs), default=1)
    maps = np.zeros((len(outputs), most, 6), np.float32)
    limits = np.zeros((len(outputs), most, 6), np.float32)  # of a tile that is not there: none
    places = np.zeros((len(outputs), most, 2), np.int64)
    seen = [
        (row, column, tile)
        for row, tiles in enumerate(outputs)
        for column, tile in enumerate(tiles)
        if tile.is_seen
    ]
    rows, columns = [entry[0] for entry in seen], [entry[1] for entry in seen]
    halved: list[Halved] = []
    if seen:
        tiles = [tile for _, _, tile in seen]
        sources = np.array([tile.source for tile in tiles])
        maps[rows, columns] = _maps(np.array([tile.local for tile in tiles]), sources[:, :2])
        limits[rows, columns, :4] = [tile.target for tile in tiles]
        limits[rows, columns, 4:] = sources[:, 2:] - sources[:, :2] - 1
        places[rows, columns] = [_place(layout, *entry, halved) for entry in seen]
    return Layer(
        maps=torch.from_numpy(maps),
        limits=torch.from_numpy(limits),
        places=torch.from_numpy(places),
        turned=not all(tile.straight for _, _, tile in seen),
        halved=halved,
    )


def _maps(local: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """[K,6] from output pixels to pixels of the source.  local: [K,2,3].  corners: [K,2] of the
    source in what ``local`` maps from.  Both sides count from the middle of their first pixel."""
    inverse = np.linalg.inv(local[:, :, :2])  # [K,2,2]
    moved = np.full(2, 0.5) - local[:, :, 2]  # [K,2]
    offsets = (inverse * moved[:, None]).sum(2) - 0.5 - corners
    return np.concatenate((inverse, offsets[:, :, None]), 2).reshape(-1, 6)


def _place(
    layout: Layout, row: int, column: int, tile: Tile, halved: list[Halved]
) -> tuple[int, int]:
    """First pixel and row distance of a tile's source; a crop to be halved is noted."""
    x0, y0, x1, y1 = tile.crop
    stride = int(layout.widths[tile.index])
    first = int(layout.firsts[tile.index]) + y0 * stride + x0
    if tile.halvings:
        to = layout.scratch(row, column)
        width, height = x1 - x0, y1 - y0
        halved.append(Halved(row, first, stride, width, height, tile.halvings, to))
        for _ in range(tile.halvings):
            width, height = half(width, height)
        first, stride = to, width
    return first + tile.source[1] * stride + tile.source[0], stride
