"""Mosaics against a slow reference with the double canvas, and boxes against painted pixels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rows import each
from scenes import LIVELY, QUIET, compose, make_records, record_of, smooth_image, write_record
from yolodet.datasets.augment.mosaic import Placement, place_mosaic, place_single
from yolodet.datasets.augment.transforms import random_affine
from yolodet.datasets.batches.dataset import Augment, DetectionDataset

SIDE = 160
SQUARE, CANVAS = (SIDE, SIDE), (2 * SIDE, 2 * SIDE)
STRAIGHT = replace(QUIET, scale=0.5, translate=0.1)
TURNED = replace(STRAIGHT, degrees=15.0, shear=5.0)
SIZES = [(SIDE, 120), (110, SIDE), (SIDE, SIDE), (SIDE, 97)]
NO_BOXES = np.zeros((0, 4), np.float32)
NO_LABELS = np.zeros(0, np.int64)


def sample_canvas(
    canvas: np.ndarray, matrix: np.ndarray, size: tuple[int, int], nearest: bool
) -> np.ndarray:
    """Output pixels by inverse bilinear (or nearest) sampling of a canvas, gray outside."""
    inverse = np.linalg.inv(np.vstack((matrix, (0, 0, 1))))
    centers = np.stack((*np.indices(size)[::-1], np.zeros(size)), -1) + 0.5
    centers[..., 2] = 1
    places = centers @ inverse[:2].T - 0.5
    framed = np.pad(canvas.astype(float), ((1, 1), (1, 1), (0, 0)), constant_values=114)
    places = np.clip(places + 1, 0, np.array(framed.shape[1::-1]) - 1.001)
    if nearest:
        x, y = np.rint(places).astype(int).transpose(2, 0, 1)
        return framed[y, x]
    x, y = np.floor(places).astype(int).transpose(2, 0, 1)
    right, down = (places - np.stack((x, y), -1)).transpose(2, 0, 1)[..., None]
    top = framed[y, x] * (1 - right) + framed[y, x + 1] * right
    bottom = framed[y + 1, x] * (1 - right) + framed[y + 1, x + 1] * right
    return top * (1 - down) + bottom * down


def paste(
    images: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    center: tuple[int, int],
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The classic canvas of twice the size, which image each pixel is of, and the cut boxes."""
    canvas = np.full((*size, 3), 114, np.uint8)
    owner = np.full((*size, 1), 9, np.uint8)
    moved = []
    for corner, (image, own) in enumerate(zip(images, boxes, strict=True)):
        height, width = image.shape[:2]
        left = center[0] - width if corner in (0, 2) else center[0]
        top = center[1] - height if corner in (0, 1) else center[1]
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + width, size[1]), min(top + height, size[0])
        canvas[y0:y1, x0:x1] = image[y0 - top : y1 - top, x0 - left : x1 - left]
        owner[y0:y1, x0:x1] = corner
        shifted = own + np.array((left, top, left, top))
        moved.append(np.clip(shifted, (x0, y0, x0, y0), (x1, y1, x1, y1)))
    return canvas, owner, np.concatenate(moved)


def keep_and_clip(
    boxes: np.ndarray, matrix: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Reference for boxes: bounds of corners, clipped; and how sure it is to keep each (> 1)."""
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    bounds = np.concatenate((moved.min(1), moved.max(1)), 1).clip(0, size[::-1] * 2)
    sides, old = bounds[:, 2:] - bounds[:, :2], boxes[:, 2:] - boxes[:, :2]
    shown = sides.prod(1) / (old.prod(1) * np.linalg.det(matrix[:, :2]) + 1e-9)
    plump = 100 * sides.min(1) / np.maximum(sides.max(1), 1e-9)
    return bounds, np.minimum.reduce((sides.min(1) / 2, shown / 0.1, plump))


def random_tiles(seed: int) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    images, boxes = [], []
    for number, (height, width) in enumerate(SIZES):
        images.append(smooth_image(height, width, 10 * seed + number))
        corners = np.sort(rng.uniform(-0.1, 1.1, (6, 2, 2)).clip(0, 1), 1).reshape(6, 4)
        boxes.append((corners * (width, height, width, height)).astype(np.float32))
    return images, boxes, [np.arange(6) + 6 * k for k in range(4)]


@each("size", [SQUARE, (128, 160)])
@each("augment", [STRAIGHT, TURNED])
@each("seed", range(8))
def test_mosaic_equals_the_double_canvas(
    size: tuple[int, int], augment: Augment, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    double = 2 * size[0], 2 * size[1]
    center = tuple(rng.integers(np.array(size[::-1]) // 2, 3 * np.array(size[::-1]) // 2).tolist())
    matrix = random_affine(rng, augment, double, size)
    images, boxes, labels = random_tiles(seed)
    output = np.empty((*size, 3), np.uint8)
    placements = place_mosaic(range(4), SIZES, center, double, matrix)
    found, found_labels = compose(placements, images, boxes, labels, output)

    canvas, owner, moved = paste(images, boxes, center, double)
    expected = sample_canvas(canvas, matrix, size, nearest=False)
    of = sample_canvas(owner, matrix, size, nearest=True).astype(np.uint8)[..., 0]
    around = np.ones((7, 7), np.uint8)
    inner = cv2.erode(of, around) == cv2.dilate(of, around)  # not at an edge between images
    inner = inner[3:-3, 3:-3]  # nor where there may be one just outside
    assert inner.mean() > 0.6
    error = np.abs(output - expected)[3:-3, 3:-3][inner]
    # Straight tiles are placed on whole pixels, half a pixel of a smooth image from exact.
    steepest = max(np.abs(np.diff(i.astype(int), axis=k)).max() for i in images for k in (0, 1))
    assert error.max() <= (1.5 if augment is TURNED else 1.0 + steepest)
    assert error.mean() <= (0.6 if augment is TURNED else 2.5)

    bounds, sure = keep_and_clip(moved, matrix, size)
    kept = set(found_labels.tolist())
    assert kept >= set(np.flatnonzero(sure > 1.6)) and not kept & set(np.flatnonzero(sure < 0.6))
    assert np.abs(found - bounds[found_labels]).max(initial=0) < (1e-3 if augment is TURNED else 1)
    assert found.dtype == np.float32 and (found >= 0).all() and (found <= size[::-1] * 2).all()


def extent(mask: np.ndarray) -> np.ndarray:
    y, x = mask.nonzero()
    return np.array((x.min(), y.min(), x.max() + 1, y.max() + 1))


@each("flips", [(False, False), (False, True), (True, False), (True, True)])
@each("tile", range(4))
def test_boxes_of_a_mosaic_follow_the_pixels(flips: tuple[bool, bool], tile: int) -> None:
    """One white box on black in one of the tiles, found again in the output."""
    compared = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        matrix = random_affine(rng, STRAIGHT, CANVAS, SQUARE, flips)
        center = tuple(rng.integers(SIDE // 2, 3 * SIDE // 2, 2).tolist())
        images = [np.zeros((*size, 3), np.uint8) for size in SIZES]
        x0, y0, x1, y1 = box = (12, 31, 70, 80)
        images[tile][y0:y1, x0:x1] = 255
        boxes = [np.array([box], np.float32) if k == tile else NO_BOXES for k in range(4)]
        output = np.empty((SIDE, SIDE, 3), np.uint8)
        placements = place_mosaic(range(4), SIZES, center, CANVAS, matrix)
        found, _ = compose(placements, images, boxes, [np.arange(len(b)) for b in boxes], output)
        if len(found):
            assert np.abs(found[0] - extent(output[..., 0] > 184)).max() <= 1.1
            compared += 1
        else:  # no more than a sliver of it may be seen
            area = 58 * 49 * abs(np.linalg.det(matrix[:, :2]))
            assert (output[..., 0] > 184).sum() <= 0.13 * area
    assert compared >= 10


@each(
    "changes",
    [
        {},
        {"scale": 0.5},
        {"translate": 0.1},
        {"degrees": 30.0},
        {"shear": 15.0},
        {"fliplr": 1.0},
        {"flipud": 1.0},
        {"scale": 0.8},
        {"degrees": 30.0, "shear": 10.0, "scale": 0.5, "fliplr": 0.5, "flipud": 0.5},
    ],
)
def test_box_of_a_single_image_follows_the_pixels(
    changes: dict[str, float], tmp_path: Path
) -> None:
    """From the file to the sample, through the scaling of the cache."""
    image = np.zeros((150, 200, 3), np.uint8)
    image[50:90, 60:130] = 255
    record = write_record(tmp_path / "image.png", image, [(60, 50, 130, 90)])
    data = DetectionDataset([record], SIDE, augment=replace(QUIET, **changes))
    compared = 0
    for epoch in range(20):
        sample = data[epoch, 0, 0]
        found = extent(sample.image[..., 0] > 184)
        # The bounds of a turned box that the output cuts are larger than what is seen of it.
        if found[:2].min() > 0 and found[2:].max() < SIDE:
            assert np.abs(sample.boxes[0] - found).max() <= 1.5
            compared += 1
    assert compared >= 10


def test_letterboxed_box_follows_the_pixels(tmp_path: Path) -> None:
    image = np.zeros((150, 201, 3), np.uint8)
    image[50:90, 60:130] = 255
    record = write_record(tmp_path / "image.png", image, [(60, 50, 130, 90)])
    sample = DetectionDataset([record], SIDE, augment=None)[0, 0, 0]
    assert np.abs(sample.boxes[0] - extent(sample.image[..., 0] > 184)).max() <= 1.1
    assert sample.letterbox is not None and sample.letterbox.gain == SIDE / 201
    assert sample.original_size == (150, 201)


def test_untouched_image_keeps_every_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    output = np.empty_like(image)
    for turn in (0.0, 1e-12):  # drawn straight, and warped
        matrix = np.array(((1.0, turn, 0.0), (0.0, 1.0, 0.0)))
        placement = place_single(0, SQUARE, SQUARE, matrix)
        compose([placement], [image], [NO_BOXES], [NO_LABELS], output)
        assert np.array_equal(output, image)


@pytest.mark.parametrize("flips", [(False, True), (True, False), (True, True)])
def test_flips_mirror_every_pixel(flips: tuple[bool, bool]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    output = np.empty_like(image)
    matrix = random_affine(np.random.default_rng(0), QUIET, SQUARE, SQUARE, flips)
    placement = place_single(0, SQUARE, SQUARE, matrix)
    compose([placement], [image], [NO_BOXES], [NO_LABELS], output)
    mirrored = image[::-1] if flips[0] else image
    assert np.array_equal(output, mirrored[:, ::-1] if flips[1] else mirrored)


@pytest.mark.parametrize("augment", [STRAIGHT, TURNED], ids=["straight", "turned"])
def test_no_seam_between_tiles(augment: Augment) -> None:
    """White images that fill the canvas leave no darker pixel inside the output."""
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    output = np.empty_like(white)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        matrix = random_affine(rng, replace(augment, translate=0.0, scale=0.0), CANVAS, SQUARE)
        matrix *= rng.uniform(1, 1.5)
        matrix[:, 2] = SIDE / 2 - matrix[:, :2].sum(1) * SIDE
        center = tuple(rng.integers(3 * SIDE // 4, 5 * SIDE // 4, 2).tolist())
        placements = place_mosaic(range(4), [(SIDE, SIDE)] * 4, center, CANVAS, matrix)
        compose(placements, [white] * 4, [NO_BOXES] * 4, [NO_LABELS] * 4, output)
        assert output.min() == 255


@pytest.mark.parametrize("turn", [0.0, 0.02], ids=["straight", "turned"])
def test_shrinking_far_averages_instead_of_skipping(turn: float) -> None:
    checkers = (np.indices((SIDE, SIDE)).sum(0) % 2 * 255).astype(np.uint8)
    image = np.dstack([checkers] * 3)
    output = np.empty_like(image)
    for zoom in (0.12, 0.3, 0.45):
        matrix = np.array(((zoom, turn * zoom, 5.0), (-turn * zoom, zoom, 9.0)))
        placement = Placement(0, (0, 0, SIDE, SIDE), matrix)
        box = np.array([[0, 0, SIDE, SIDE]], np.float32)
        found, _ = compose([placement], [image], [box], [np.arange(1)], output)
        middle = output[14 : 9 + int(zoom * SIDE) - 5, 10 : 5 + int(zoom * SIDE) - 5]
        assert np.abs(middle.astype(int) - 127).max() <= 3
        assert np.abs(found[0, 2:] - found[0, :2] - zoom * SIDE * (1 + turn)).max() < 1.1


def test_tiles_outside_the_output_or_of_no_size_are_left_out() -> None:
    image = np.full((20, 20, 3), 255, np.uint8)
    output = np.empty((SIDE, SIDE, 3), np.uint8)
    for matrix in (
        np.array(((1.0, 0.0, 500.0), (0.0, 1.0, 0.0))),
        np.array(((1.0, 0.1, 0.0), (-0.1, 1.0, -500.0))),
        np.array(((1.0, 0.0, SIDE - 0.2), (0.0, 1.0, 3.0))),
    ):
        boxes = np.array([[0, 0, 20, 20]], np.float32)
        placement = Placement(0, (0, 0, 20, 20), matrix)
        found, _ = compose([placement], [image], [boxes], [np.arange(1)], output)
        assert (output == 114).all() and found.shape == (0, 4)
    placement = Placement(0, (5, 0, 5, 20), np.array(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))))
    compose([placement], [image], [NO_BOXES], [NO_LABELS], output)
    assert (output == 114).all()


def test_background_images_give_empty_labels(tmp_path: Path) -> None:
    records = [write_record(tmp_path / f"{k}.png", smooth_image(60, 80, k)) for k in range(4)]
    for augment in (None, QUIET, replace(LIVELY, mosaic=1.0, mixup=1.0)):
        sample = DetectionDataset(records, 64, augment=augment)[0, 1, 0]
        assert sample.boxes.shape == (0, 4) and sample.boxes.dtype == np.float32
        assert sample.labels.shape == (0,) and sample.labels.dtype == np.int64
        assert sample.image.shape == (64, 64, 3) and sample.path == records[1].path


def test_mosaic_centers_and_partners_are_uniform(tmp_path: Path) -> None:
    records = [write_record(tmp_path / f"{k}.png", smooth_image(64, 64, k)) for k in range(10)]
    data = DetectionDataset(records, 64, augment=replace(QUIET, mosaic=1.0))
    plans = [data.plan((epoch, 3, 0)) for epoch in range(3000)]
    # Without zoom the canvas' middle is the output's: the fourth tile starts at the center.
    centers = np.array([plan.placements[3].matrix[:, 2] for plan in plans]) + 32
    assert centers.min() >= 32 and centers.max() <= 96
    for values in centers.T:
        shares = np.histogram(values + 0.5, 4, (32, 96))[0] / len(plans)
        assert np.abs(shares - 0.25).max() < 0.03
    assert all(plan.placements[0].index == 3 for plan in plans)
    partners = [placement.index for plan in plans for placement in plan.placements[1:]]
    assert np.abs(np.bincount(partners, minlength=10) / len(partners) - 0.1).max() < 0.015


def test_mixup_blends_two_samples_with_beta_weights(tmp_path: Path) -> None:
    dark = write_record(tmp_path / "0.png", np.zeros((64, 64, 3), np.uint8), [(4, 4, 30, 30)])
    light = write_record(tmp_path / "1.png", np.full((64, 64, 3), 200, np.uint8), [(9, 9, 50, 40)])
    data = DetectionDataset([dark, light], 64, augment=replace(QUIET, mixup=1.0))
    shares = [data.plan((epoch, 0, 0)).share for epoch in range(3000)]
    assert abs(np.mean(shares) - 0.5) < 0.01 and abs(np.std(shares) - 0.062) < 0.005
    epoch = next(e for e in range(99) if data.plan((e, 0, 0)).mixed[0].index == 1)
    sample = data[epoch, 0, 0]
    assert np.array_equal(sample.boxes, [(4, 4, 30, 30), (9, 9, 50, 40)])
    assert np.abs(sample.image - 200 * (1 - data.plan((epoch, 0, 0)).share)).max() <= 0.51


def test_probabilities_and_closing_of_mosaic_and_mixup(tmp_path: Path) -> None:
    records = make_records(tmp_path, 5)
    data = DetectionDataset(records, 64, augment=replace(LIVELY, close_epoch=2000))
    plans = [data.plan((epoch, 0, 0)) for epoch in range(2000)]
    assert abs(np.mean([len(plan.placements) == 4 for plan in plans]) - 0.8) < 0.03
    assert abs(np.mean([bool(plan.mixed) for plan in plans]) - 0.3) < 0.03
    for epoch in range(2000, 2100):
        plan = data.plan((epoch, 0, 0))
        assert len(plan.placements) == 1 and not plan.mixed
        assert plan.placements[0].matrix[0, 1] != 0  # the affine goes on


def test_sample_is_a_function_of_seed_epoch_index_and_repeat(tmp_path: Path) -> None:
    records = make_records(tmp_path, 5)
    data = DetectionDataset(records, 64, augment=LIVELY, seed=7)
    again = DetectionDataset(records, 64, augment=LIVELY, seed=7)
    [data[0, index, 0] for index in range(5)]
    assert np.array_equal(data[3, 2, 1].image, again[3, 2, 1].image)
    assert np.array_equal(data[3, 2, 1].boxes, again[3, 2, 1].boxes)
    other = DetectionDataset(records, 64, augment=LIVELY, seed=8)
    for sample in (data[4, 2, 1], data[3, 1, 1], data[3, 2, 0], other[3, 2, 1]):
        assert not np.array_equal(sample.image, data[3, 2, 1].image)


def test_records_come_back_as_given(tmp_path: Path) -> None:
    records = make_records(tmp_path / "déjà vu", 6)
    data = DetectionDataset(records, 64, augment=None)
    for index, record in enumerate(records):
        packed = record_of(data, index)
        assert (packed.path, packed.size) == (record.path, record.size)
        assert np.array_equal(packed.boxes, record.boxes)
        assert np.array_equal(packed.labels, record.labels)
