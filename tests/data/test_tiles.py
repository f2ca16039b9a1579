"""Tiles as samples: their boxes, the empty ones among them, and their pixels."""

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from perfect import draw_rectangles, rectangles
from scenes import LIVELY
from yolodet.datasets.batches import tiles as tiles_module
from yolodet.datasets.batches.dataset import DetectionDataset, LostImage
from yolodet.datasets.batches.loader import Loader
from yolodet.datasets.batches.tiles import TileReader, cut, sample_empty
from yolodet.datasets.formats.record import Record
from yolodet.datasets.images.cache import ImageCache
from yolodet.datasets.images.tiling import Tiling

TILING = Tiling(100, 0.2)
SIZE = (180, 260)


def record(boxes, size=SIZE, path=Path("x.png"), **columns):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Record(path, size, boxes, np.arange(len(boxes)), **columns)


def test_a_cut_object_is_kept_where_a_quarter_of_it_or_of_the_tile_is_seen():
    ((place, *_),) = ([TILING.of(SIZE)[0]],)
    assert place == (0, 0, 100, 100)
    boxes = [
        [10, 10, 50, 50],  # inside
        [90, 10, 130, 50],  # a quarter of it
        [91, 10, 131, 50],  # less
        [-20, -20, 260, 180],  # hardly any of it, but it fills the tile
        [120, 120, 140, 140],  # outside
    ]
    first = cut([record(boxes)], TILING)[0][0]
    assert first.size == (100, 100) and first.labels.tolist() == [0, 1, 3]
    assert first.boxes.tolist() == [[10, 10, 50, 50], [90, 10, 100, 50], [0, 0, 100, 100]]


def test_every_object_that_fits_into_the_overlap_is_whole_in_some_tile():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, (240, 160), (200, 2))
    boxes = np.concatenate((corners, corners + rng.integers(2, 20, (200, 2))), 1)
    samples, tiles = cut([record(boxes)], TILING)
    back = [
        (label, *(box + np.tile(tiles.places[number, :2], 2)))
        for number, sample in enumerate(samples)
        for label, box in zip(sample.labels, sample.boxes, strict=True)
    ]
    assert {(label, *box) for label, box in enumerate(boxes)} <= {*back}


def test_an_image_that_fits_into_a_tile_is_itself():
    small = record([[1, 2, 30, 40]], (90, 100), crowd=np.array([False]), area=np.array([9.0]))
    (same,), tiles = cut([small], TILING)
    assert same is small and tiles.place(0) == (0, 0, 100, 90)


def test_crowds_stay_crowds_and_places_are_those_of_the_images():
    one = record([[0, 0, 80, 80], [150, 100, 250, 170]], crowd=np.array([False, True]))
    samples, tiles = cut([one, record([], (100, 100))], TILING)
    per_image = len(TILING.of(SIZE))
    assert tiles.of_image(0) == range(per_image) and tiles.of_image(1) == range(
        per_image, per_image + 1
    )
    assert any(sample.crowd.all() and len(sample.crowd) for sample in samples[:per_image])
    assert sum((~sample.crowd).sum() for sample in samples[:per_image]) >= 1


def test_empty_tiles_are_sampled_by_the_seed():
    boxes = [[10, 10, 30, 30]]
    records = cut([record(boxes, (1000, 1000)) for _ in range(8)], TILING)[0]
    filled = {n for n, sample in enumerate(records) if len(sample.labels)}
    chosen = sample_empty(records, 2.0, 0)
    assert filled <= {*chosen.tolist()} and len(chosen) == 3 * len(filled)
    assert np.array_equal(chosen, np.sort(chosen)) and len(np.unique(chosen)) == len(chosen)
    assert np.array_equal(chosen, sample_empty(records, 2.0, 0))
    assert not np.array_equal(chosen, sample_empty(records, 2.0, 1))
    assert sample_empty(records, 0.0, 0).tolist() == sorted(filled)
    assert len(sample_empty(records, 1e9, 0)) == len(records)
    blank = cut([record([])], TILING)[0]
    assert len(sample_empty(blank, 0.25, 0)) == len(blank)


@pytest.fixture
def drawn(tmp_path):
    """Records of three images of rectangles in colors of their own."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(3):
        corners = np.stack((np.arange(5, 230, 40), rng.integers(0, 150, 6)), 1)
        boxes = np.concatenate((corners, corners + rng.integers(8, 30, (6, 2))), 1)
        path = tmp_path / f"{number}.png"
        assert cv2.imwrite(str(path), draw_rectangles(SIZE, boxes)[:, :, ::-1])
        found.append(record(boxes, path=path))
    return found


def counted_reads(monkeypatch):
    names = []
    read = tiles_module.read_image
    monkeypatch.setattr(
        tiles_module, "read_image", lambda path, **w: names.append(path.name) or read(path, **w)
    )
    return names


@pytest.mark.parametrize("mode", ["ram", "none"])
def test_a_sample_shows_its_boxes_and_each_image_is_decoded_once(mode, drawn, monkeypatch):
    names = counted_reads(monkeypatch)
    samples, tiles = cut(drawn, TILING)
    cache = ImageCache(samples, 100, mode=mode)
    data = DetectionDataset(samples, 100, augment=None, cache=cache, tiles=tiles)
    order = list(range(len(data)))
    if mode == "ram":
        np.random.default_rng(0).shuffle(order)
    for number in order:
        sample = data[0, number, 0]
        shown = sorted(box for box, color in rectangles(sample.image))
        kept = {tuple(map(int, box)) for box in sample.boxes.tolist()}
        assert kept <= {*shown} and sample.original_size == (100, 100)
        assert all((x1 - x0) * (y1 - y0) < 600 for x0, y0, x1, y1 in {*shown} - kept)
    assert sorted(names) == ["0.png", "1.png", "2.png"]


def test_tiles_are_scaled_to_the_input_and_augmented_like_images(drawn):
    samples, tiles = cut(drawn, TILING)
    data = DetectionDataset(samples, 64, augment=LIVELY, seed=1, tiles=tiles)
    assert data.read(0).shape == (64, 64, 3)
    again = DetectionDataset(samples, 64, augment=LIVELY, seed=1, tiles=tiles)
    for number in range(4):
        one, two = data[0, number, 0], again[0, number, 0]
        assert np.array_equal(one.image, two.image) and np.array_equal(one.boxes, two.boxes)


def test_an_image_of_another_size_or_that_is_gone_is_lost(drawn):
    samples, tiles = cut(drawn, TILING)
    data = DetectionDataset(samples, 100, augment=None, tiles=tiles)
    assert cv2.imwrite(str(drawn[1].path), np.zeros((50, 60, 3), np.uint8))
    drawn[2].path.unlink()
    for image, words in ((1, r"is 60 x 50 px, was 260 x 180"), (2, "cannot be read")):
        with pytest.raises(LostImage, match=words):
            data.read(tiles.of_image(image)[0])
    assert data.read(0).shape == (100, 100, 3)


def test_an_image_that_cannot_be_read_is_tried_and_told_once(drawn, monkeypatch):
    """Not again for each of its tiles, which are all lost."""
    names = counted_reads(monkeypatch)
    samples, tiles = cut(drawn, TILING)
    drawn[1].path.write_bytes(b"no image")
    data = DetectionDataset(samples, 100, augment=None, tiles=tiles)
    loader, told = Loader(data, 4, shuffle=False, workers=0), []
    loader.on_lost = told.append
    assert len(list(loader.epoch(0))) == len(loader)
    assert len(told) == 1 and "1.png" in told[0] and names.count("1.png") == 1
    assert set(loader.lost) == set(tiles.of_image(1))


def test_a_reader_of_tiles_goes_to_other_processes(drawn):
    samples, tiles = cut(drawn, TILING)
    reader = TileReader(tiles, ImageCache(samples, 100, mode="none"), "auto")
    before = reader.read(5, drawn[0].path, False)
    after = pickle.loads(pickle.dumps(reader)).read(5, drawn[0].path, False)
    assert np.array_equal(before, after)


def test_chosen_tiles_stay_where_they_are(drawn):
    samples, tiles = cut(drawn, TILING)
    numbers = np.array([1, 4, 9, len(samples) - 1])
    some = [samples[number] for number in numbers]
    data = DetectionDataset(some, 100, augment=None, tiles=tiles.only(numbers))
    whole = DetectionDataset(samples, 100, augment=None, tiles=tiles)
    for place, number in enumerate(numbers):
        assert np.array_equal(data.read(place), whole.read(number))
    assert replace(tiles, owners=tiles.owners).only(numbers).of_image(2) == range(3, 4)
