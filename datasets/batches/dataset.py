"""Records to Samples: the data set as training and validation see it.

A sample is named by (epoch, index, repeat), and everything random about it comes from a generator
seeded with (seed, epoch, index, repeat), so that the order and the number of processes change
nothing.  ``plan`` draws all random numbers and decides what goes where from the
sizes of the images alone; ``__getitem__`` reads the images and draws the plan.  Without
augmentation an image is letterboxed, and the Sample carries the way back.  ``drawing`` turns a
plan into whole pixels, boxes included, to be drawn by this class on the CPU or by device_draw.py
elsewhere.

The records are packed into a few flat arrays: forked loader processes then share them for good,
where a hundred thousand small Python objects would be copied page by page as their reference
counts change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..augment.draw_cpu import paint
from ..augment.mosaic import Placement, Tile, move_boxes, place_mosaic, place_single, to_pixels
from ..augment.transforms import (
    Augment,
    blend,
    random_affine,
    random_color,
    random_flips,
    shift_color,
)
from ..formats.record import Record
from ..images.cache import ImageCache
from ..images.image import CENTER, ImageError, fit, letterbox_boxes, place, read_scaled
from ..images.input_size import InputSize, Size
from ..nouns import Sample
from .tiles import TileReader, Tiles

__all__ = ["Augment", "DetectionDataset", "Drawing", "Key", "LostImage", "Plan"]

Key = tuple[int, int, int]
"""(epoch, index, repeat): names one sample."""


@dataclass(frozen=True)
class Plan:
    """Everything random about one augmented sample, decided without looking at pixels.

    placements: what is drawn.  color: hue shift, saturation and value factors.  mixed: a second
    set of placements to blend in, and share: the weight of the first (1 without a second).
    """

    placements: list[Placement]
    color: tuple[float, float, float]
    mixed: list[Placement]
    share: float


@dataclass(frozen=True)
class Drawing:
    """A plan in whole pixels: everything needed to draw the image, and its boxes.

    index: place in the data set.  tiles: drawn one over the other.  mixed: of a second image to
    blend in, and share: the weight of the first.  color: as in Plan.  boxes: [N,4] float32 pixels
    of the output.  labels: [N] int64.
    """

    index: int
    tiles: list[Tile]
    mixed: list[Tile]
    share: float
    color: tuple[float, float, float]
    boxes: np.ndarray
    labels: np.ndarray


class LostImage(ImageError):
    """An image that could be read when the data set was scanned, and now cannot be."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


class DetectionDataset:
    """Images and boxes of a split, at a network input of ``image_size``.

    records: the images. image_size: a side, (h, w), or an InputSize. augment: None letterboxes
    (validation). cache: decoded images, made for the same records and image_size; without one every
    image is decoded whenever it is needed.
    align: where a letterboxed image lies (image.CENTER, image.CORNER).
    weights: [N] how often each image is drawn for training, relative to the others, also as a
    partner in mosaic and mixup; None: equally often.
    border: index of the first image of a second group; images of two groups are never drawn into
    one.
    tiles: where each record lies, if the records are tiles of images (tiles.py).
    Raises ValueError for an empty list of records or a cache made for something else.
    """

    def __init__(
        self,
        records: Sequence[Record],
        image_size: int | Size | InputSize,
        *,
        augment: Augment | None,
        seed: int = 0,
        cache: ImageCache | None = None,
        align: str = CENTER,
        weights: np.ndarray | None = None,
        border: int | None = None,
        tiles: Tiles | None = None,
    ) -> None:
        if not records:
            raise ValueError("a data set needs at least one record")
        self.input = InputSize.of(image_size)
        cache = cache or ImageCache(records, self.input.whole, mode="none")
        if cache.input.whole != self.input.whole or len(cache) != len(records):
            raise ValueError(
                f"the image cache holds {len(cache)} images at {cache.input} px, the data set "
                f"has {len(records)} at {self.input} px: make the cache from the same records"
            )
        self.augment = augment
        self.seed = seed
        self.cache = cache
        self.align = align
        self.weights = weights
        self._weight_ends = None if weights is None else np.cumsum(weights) / np.cumsum(weights)[-1]
        self.border = border
        self.tiles = tiles
        self._tile_reader = None if tiles is None else TileReader(tiles, cache, self.input.pixels)
        self.lost: dict[int, str] = {}
        self._seen = np.zeros(len(records), bool)
        self._packed = _PackedRecords([record.without_crowd() for record in records])
        self._kept_boxes = self._packed.boxes if augment is None else self._scale_boxes()

    def __len__(self) -> int:
        return len(self._packed.sizes)

    def facts(self, index: int) -> tuple[Path, tuple[int, int]]:
        """Path and original size (h, w) of an image."""
        return self._packed.path(index), self._packed.size(index)

    def shape(self, index: int) -> Size:
        """(height, width) of the input of an image."""
        return self.input.shape(self._packed.size(index))

    def __getitem__(self, key: Key) -> Sample:
        """The sample of (epoch, index, repeat); ImageError if its image cannot be read."""
        return self.draw(key, np.empty((*self.shape(key[1]), 3), np.uint8))

    def draw(self, key: Key, output: np.ndarray) -> Sample:
        """The same sample with its image drawn into ``output`` [h,w,3] uint8, an input of any
        shape.

        An image that cannot be read any more is in ``lost`` from then on.
        """
        while True:
            try:
                if self.augment is None:
                    return self._letterboxed(key[1], output)
                height, width = output.shape[:2]
                return self._augmented(self.drawing(key, (height, width)), output)
            except LostImage as error:
                self.lose(error)

    def lose(self, error: LostImage) -> None:
        """Do without an image: in training the next one takes its place, in validation it counts
        neither way.  Raises ImageError where most images are gone: that is no damaged file."""
        self.lost[error.index] = str(error)
        if 2 * len(self.lost) > len(self) and len(self.lost) < len(self):
            gone = f"{len(self.lost)} of {len(self)} images cannot be read any more"
            raise ImageError(f"{gone}, the last one: {error}")
        if len(self.lost) == len(self):
            raise ImageError(str(error))

    def _usable(self, index: int) -> int:
        """The image itself, or the next one that is not lost, of its group while one is left."""
        low, high = self._group(index)
        for step in range(high - low):
            if (near := low + (index - low + step) % (high - low)) not in self.lost:
                return near
        while index in self.lost:
            index = (index + 1) % len(self)
        return index

    def _group(self, index: int) -> tuple[int, int]:
        """First and last index + 1 of the images that may be drawn beside an image."""
        if self.border is None:
            return 0, len(self)
        return (0, self.border) if index < self.border else (self.border, len(self))

    def read(self, index: int) -> np.ndarray:
        """[H,W,3] uint8 RGB that just fits the whole input; do not write to it.

        From the cache, or decoded and stored there; the first time, what the decoder says about
        damage is heard.  Raises LostImage.
        """
        image = self.cache.get(index)
        if image is not None:
            return image
        path, size = self.facts(index)
        listen = not self._seen[index]
        try:
            if self._tile_reader is not None:
                image = self._tile_reader.read(index, path, listen)
            else:
                whole, pixels = self.input.whole, self.input.pixels
                image = read_scaled(path, size, whole, listen=listen, pixels=pixels)
        except ImageError as error:
            raise LostImage(index, str(error)) from None
        self._seen[index] = True
        self.cache.put(index, image)
        return image

    def plan(self, key: Key, output: Size | None = None) -> Plan:
        """The random decisions of an augmented sample; ValueError without augmentation.

        output: (h, w) of the input that it is drawn into; default: that of its image."""
        output = output or self.shape(key[1])
        augment = self.augment
        if augment is None:
            raise ValueError("a data set without augmentation has nothing to plan")
        epoch, index, repeat = key
        rng = np.random.default_rng((self.seed, epoch, index, repeat))
        closed = epoch >= augment.close_epoch
        flips = random_flips(rng, augment)
        color = random_color(rng, augment)
        placements = self._placements(rng, index, flips, closed, output)
        if closed or rng.random() >= augment.mixup:
            return Plan(placements, color, [], 1.0)
        (partner,) = self._partners(rng, index, 1)
        share = float(rng.beta(32.0, 32.0))
        second = self._placements(rng, partner, flips, closed, output)
        return Plan(placements, color, second, share)

    def drawing(self, key: Key, output: Size | None = None) -> Drawing:
        """The plan of a sample in whole pixels; see ``plan``."""
        output = output or self.shape(key[1])
        plan = self.plan(key, output)
        tiles, boxes, labels = self._tiles_and_boxes(plan.placements, output)
        mixed: list[Tile] = []
        if plan.mixed:
            mixed, other_boxes, other_labels = self._tiles_and_boxes(plan.mixed, output)
            boxes = np.concatenate((boxes, other_boxes))
            labels = np.concatenate((labels, other_labels))
        return Drawing(key[1], tiles, mixed, plan.share, plan.color, boxes, labels)

    def _tiles_and_boxes(
        self, placements: Sequence[Placement], size: Size
    ) -> tuple[list[Tile], np.ndarray, np.ndarray]:
        """Tiles, boxes and labels of placements in an output of ``size``."""
        parts = [self._packed.of(placement.index) for placement in placements]
        tiles = [to_pixels(placement, size) for placement in placements]
        boxes = [self._kept_boxes[part] for part in parts]
        return tiles, *move_boxes(tiles, boxes, [self._packed.labels[part] for part in parts], size)

    def _placements(
        self,
        rng: np.random.Generator,
        index: int,
        flips: tuple[bool, bool],
        closed: bool,
        output: Size,
    ) -> list[Placement]:
        augment = self.augment
        assert augment is not None
        index = self._usable(index)
        if closed or rng.random() >= augment.mosaic:
            matrix = random_affine(rng, augment, output, output, flips)
            return [place_single(index, self.cache.size(index), output, matrix)]
        indices = [index, *(self._usable(other) for other in self._partners(rng, index, 3))]
        height, width = output
        x, y = rng.uniform(0.5 * width, 1.5 * width), rng.uniform(0.5 * height, 1.5 * height)
        canvas = 2 * height, 2 * width
        matrix = random_affine(rng, augment, canvas, output, flips)
        sizes = [self.cache.size(i) for i in indices]
        return place_mosaic(indices, sizes, (int(x), int(y)), canvas, matrix)

    def _partners(self, rng: np.random.Generator, index: int, count: int) -> list[int]:
        """Random images of the group of an image, by the weights."""
        low, high = self._group(index)
        if self._weight_ends is None:
            return rng.integers(low, high, size=count).tolist()
        begin = self._weight_ends[low - 1] if low else 0.0
        places = begin + rng.random(count) * (self._weight_ends[high - 1] - begin)
        return np.searchsorted(self._weight_ends, places, side="right").tolist()

    def _scale_boxes(self) -> np.ndarray:
        """[M,4] all boxes in pixels of the images as kept in the cache."""
        kept = np.array([self.cache.size(index) for index in range(len(self))])
        gains = (kept / self._packed.sizes)[:, [1, 0, 1, 0]]  # [N,4]
        scaled = self._packed.boxes * np.repeat(gains, np.diff(self._packed.starts), 0)
        return scaled.astype(np.float32)

    def _letterboxed(self, index: int, output: np.ndarray) -> Sample:
        original = self._packed.size(index)
        height, width = output.shape[:2]
        shape = height, width
        box = fit(original, self.input.whole, self.align, shape)
        if index in self.lost:
            image = np.zeros((*self.cache.size(index), 3), np.uint8)
        else:
            image = self.read(index)
        return Sample(
            image=place(image, shape, align=self.align, output=output),
            boxes=letterbox_boxes(self._packed.boxes[self._packed.of(index)], box),
            labels=self._packed.labels[self._packed.of(index)],
            path=self._packed.path(index),
            original_size=original,
            letterbox=box,
        )

    def _augmented(self, drawing: Drawing, output: np.ndarray) -> Sample:
        self._paint(drawing.tiles, output)
        if drawing.mixed:
            other = np.empty_like(output)
            self._paint(drawing.mixed, other)
            blend(output, other, drawing.share)
        if drawing.color != (0.0, 1.0, 1.0):
            shift_color(output, drawing.color)
        return Sample(
            image=output,
            boxes=drawing.boxes,
            labels=drawing.labels,
            path=self._packed.path(drawing.index),
            original_size=self._packed.size(drawing.index),
        )

    def _paint(self, tiles: Sequence[Tile], output: np.ndarray) -> None:
        paint([(tile, self.read(tile.index)) for tile in tiles], output)


class _PackedRecords:
    """Records as flat arrays.  sizes: [N,2] (h, w).  boxes: [M,4].  labels: [M].  starts: [N+1]."""

    def __init__(self, records: Sequence[Record]) -> None:
        counts = [len(record.boxes) for record in records]
        names = [bytes(str(record.path), "utf-8", "surrogateescape") for record in records]
        self.sizes = np.array([record.size for record in records], np.int64).reshape(-1, 2)
        self.starts = np.concatenate(((0,), np.cumsum(counts, dtype=np.int64)))
        self.boxes = np.concatenate([np.zeros((0, 4)), *(r.boxes for r in records)])
        self.boxes = self.boxes.astype(np.float32)
        self.labels = np.concatenate([np.zeros(0, np.int64), *(r.labels for r in records)])
        self.labels = self.labels.astype(np.int64)
        self.names = b"".join(names)
        self.name_starts = np.concatenate(((0,), np.cumsum([len(name) for name in names])))

    def path(self, index: int) -> Path:
        name = self.names[self.name_starts[index] : self.name_starts[index + 1]]
        return Path(name.decode("utf-8", "surrogateescape"))

    def size(self, index: int) -> tuple[int, int]:
        height, width = self.sizes[index].tolist()
        return height, width

    def of(self, index: int) -> slice:
        """Where the boxes and labels of an image are."""
        return slice(self.starts[index], self.starts[index + 1])
