"""Matrices, boxes and color against slow and obvious versions of the same."""

import colorsys
import math
from dataclasses import replace

import cv2
import numpy as np
from rows import each
from scenes import LIVELY, QUIET
from yolodet.datasets.augment.transforms import (
    blend,
    clip_boxes,
    random_affine,
    random_color,
    random_flips,
    shift_color,
    translated,
    warp_boxes,
    worth_keeping,
)

SQUARE = (64, 64)


def by_product(
    numbers: np.ndarray, canvas: tuple[int, int], size: tuple[int, int], flips: tuple[bool, bool]
) -> np.ndarray:
    """The matrix of LIVELY as a product: center, rotate and zoom, shear, translate, flip."""
    turn, zoom, shear_x, shear_y, move_x, move_y = numbers
    center = np.array(((1, 0, -canvas[1] / 2), (0, 1, -canvas[0] / 2), (0, 0, 1)))
    rotate = np.eye(3)
    rotate[:2] = cv2.getRotationMatrix2D((0, 0), turn * LIVELY.degrees, 1 + zoom * LIVELY.scale)
    shear = np.eye(3)
    shear[0, 1] = math.tan(math.radians(shear_x * LIVELY.shear))
    shear[1, 0] = math.tan(math.radians(shear_y * LIVELY.shear))
    move = np.eye(3)
    move[:2, 2] = (0.5 + np.array((move_x, move_y)) * LIVELY.translate) * size[::-1]
    vertical = np.array(((1, 0, 0), (0, -1, size[0]), (0, 0, 1))) if flips[0] else np.eye(3)
    horizontal = np.array(((-1, 0, size[1]), (0, 1, 0), (0, 0, 1))) if flips[1] else np.eye(3)
    return (vertical @ horizontal @ move @ shear @ rotate @ center)[:2]


@each("flips", [(False, False), (True, False), (False, True), (True, True)])
@each(("canvas", "size"), [(SQUARE, SQUARE), ((128, 128), SQUARE), ((96, 192), (48, 96))])
def test_affine_is_the_product_of_its_steps(
    flips: tuple[bool, bool], canvas: tuple[int, int], size: tuple[int, int]
) -> None:
    for seed in range(20):
        numbers = np.random.default_rng(seed).uniform(-1, 1, 6)
        matrix = random_affine(np.random.default_rng(seed), LIVELY, canvas, size, flips)
        assert np.allclose(matrix, by_product(numbers, canvas, size, flips))


def test_affine_without_augmentation_crops_the_center() -> None:
    rng = np.random.default_rng(0)
    assert np.array_equal(random_affine(rng, QUIET, SQUARE, SQUARE), ((1, 0, 0), (0, 1, 0)))
    assert np.array_equal(random_affine(rng, QUIET, (128, 128), SQUARE), ((1, 0, -32), (0, 1, -32)))


def test_affine_parameters_are_uniform_in_their_ranges() -> None:
    augment = replace(QUIET, scale=0.5, translate=0.1)
    rng = np.random.default_rng(0)
    matrices = np.array([random_affine(rng, augment, (200, 200), (100, 100)) for _ in range(4000)])
    centers = matrices[:, :, :2].sum(2) * 100 + matrices[:, :, 2]
    for values, low, high in (
        (matrices[:, 0, 0], 0.5, 1.5),
        (centers[:, 0], 40, 60),
        (centers[:, 1], 40, 60),
    ):
        assert low <= values.min() and values.max() <= high
        shares = np.histogram(values, 5, (low, high))[0] / len(values)
        assert np.abs(shares - 0.2).max() < 0.03


def test_rotation_and_shear_are_uniform_in_their_ranges() -> None:
    rng = np.random.default_rng(0)
    turned = [random_affine(rng, replace(QUIET, degrees=30.0), SQUARE, SQUARE) for _ in range(2000)]
    angles = np.array([math.degrees(math.atan2(m[0, 1], m[0, 0])) for m in turned])
    sheared = [random_affine(rng, replace(QUIET, shear=30.0), SQUARE, SQUARE) for _ in range(2000)]
    slants = np.array([math.degrees(math.atan(m[0, 1])) for m in sheared])
    for values in (angles, slants):
        shares = np.histogram(values, 5, (-30, 30))[0] / len(values)
        assert np.abs(shares - 0.2).max() < 0.04


def test_flips_come_with_their_probabilities() -> None:
    rng = np.random.default_rng(0)
    augment = replace(QUIET, flipud=0.2, fliplr=0.5)
    shares = np.mean([random_flips(rng, augment) for _ in range(4000)], 0)
    assert np.abs(shares - (0.2, 0.5)).max() < 0.03


def test_translated_shifts_before_the_matrix() -> None:
    matrix = np.array(((2.0, 0.5, 7.0), (-0.5, 1.5, 3.0)))
    shifted = translated(matrix, 10.0, -4.0)
    assert np.allclose(shifted @ (3, 5, 1), matrix @ (13, 1, 1))


def test_warped_boxes_are_the_bounds_of_their_corners() -> None:
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.uniform(0, 64, (50, 2, 2)), 1).reshape(50, 4)
    matrices = np.array([random_affine(rng, LIVELY, SQUARE, SQUARE, (True, False)) for _ in boxes])
    for box, matrix, warped in zip(boxes, matrices, warp_boxes(boxes, matrices), strict=True):
        corners = np.array([(x, y, 1) for x in box[::2] for y in box[1::2]]) @ matrix.T
        assert np.allclose(warped, (*corners.min(0), *corners.max(0)))


def test_boxes_are_clipped_to_one_limit_or_to_their_own() -> None:
    boxes = np.array(((-5.0, 2.0, 40.0, 9.0), (10.0, 10.0, 20.0, 70.0)))
    expected = ((0, 2, 30, 9), (10, 10, 20, 30))
    assert np.array_equal(clip_boxes(boxes, (0, 0, 30, 30)), expected)
    limits = np.array(((0, 0, 30, 30), (12, 0, 18, 60)))
    assert np.array_equal(clip_boxes(boxes, limits), ((0, 2, 30, 9), (12, 10, 18, 60)))


@each(
    ("width", "height", "full_area", "kept"),
    [
        (10, 10, 100, True),
        (2, 10, 20, False),  # not wider than 2 px
        (2.01, 10, 20, True),
        (10, 2, 20, False),
        (10, 10, 999, True),
        (10, 10, 1000, False),  # a tenth and no more
        (299, 3, 897, True),
        (300, 3, 900, False),  # a hundred times longer than wide
        (3, 300, 900, False),
        (0, 0, 0, False),
    ],
)
def test_which_boxes_are_worth_keeping(
    width: float, height: float, full_area: float, kept: bool
) -> None:
    boxes = np.array(((5.0, 7.0, 5.0 + width, 7.0 + height),))
    assert worth_keeping(boxes, np.array((full_area,))).tolist() == [kept]


def all_colors(steps: int = 18) -> np.ndarray:
    """[1,steps**3,3] uint8: the whole color cube."""
    levels = np.linspace(0, 255, steps).round()
    return np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3).astype(np.uint8)


def by_colorsys(pixel: np.ndarray, factors: tuple[float, float]) -> list[float]:
    """HSV's saturation and value multiplied, without limits."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(pixel / 255.0))
    return [255 * c for c in colorsys.hsv_to_rgb(hue, saturation * factors[0], value * factors[1])]


@each("factors", [(1.0, 1.0), (1.7, 0.6), (0.3, 1.4), (0.0, 1.0), (1.0, 2.0)])
def test_saturation_and_value_are_those_of_hsv_cut_at_the_ends(
    factors: tuple[float, float],
) -> None:
    image = all_colors()
    shifted = image.copy()
    shift_color(shifted, (0.0, *factors))
    exact = np.array([by_colorsys(pixel, factors) for pixel in image[0]]).clip(0, 255)
    assert np.abs(shifted[0] - exact).max() <= 0.501


@each("turn", [0.015, -0.015, 0.2, -0.45])
def test_hue_is_turned_about_the_gray_axis(turn: float) -> None:
    """HSV's hue, which is an angle about a hexagon, is nowhere further from it than 1.2 degrees."""
    image = all_colors()[:, (np.ptp(all_colors()[0], -1) > 100)]
    muted = (64 + image // 3).astype(np.uint8)  # nothing leaves the cube, so that nothing is cut
    shifted = muted.copy()
    shift_color(shifted, (turn, 1.0, 1.0))
    assert np.abs(shifted.sum(-1, dtype=int) - muted.sum(-1, dtype=int)).max() <= 2
    hues = [
        np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels[0] / 255.0])
        for pixels in (muted, shifted)
    ]
    off = (hues[1] - hues[0] - turn + 0.5) % 1.0 - 0.5
    assert np.abs(off).max() * 360 < 2.4 + 2.0  # twice that, and the rounding of pixels
    assert np.abs(off).mean() * 360 < 1.5


def test_a_third_of_the_circle_is_a_change_of_channels() -> None:
    image = all_colors()
    shifted = image.copy()
    shift_color(shifted, (1 / 3, 1.0, 1.0))
    assert np.array_equal(shifted, np.roll(image, 1, -1))
    shift_color(shifted, (-1 / 3, 1.0, 1.0))
    assert np.array_equal(shifted, image)


def test_gray_stays_gray_and_large_images_are_shifted_throughout() -> None:
    """Images are worked on in strips: the last, shorter one too."""
    gray = np.repeat(np.random.default_rng(0).integers(0, 256, (533, 317, 1), np.uint8), 3, 2)
    shifted = gray.copy()
    shift_color(shifted, (0.1, 1.5, 0.5))
    assert (shifted == shifted[..., :1]).all()
    assert np.abs(shifted - gray * 0.5).max() <= 0.5
    colors = np.random.default_rng(1).integers(0, 256, (533, 317, 3), np.uint8)
    shifted = colors.copy()
    shift_color(shifted, (0.1, 1.5, 0.5))
    for row, expected in zip(colors, shifted, strict=True):
        shift_color(row[None], (0.1, 1.5, 0.5))
        assert np.array_equal(row, expected)


def test_color_parameters_are_uniform_in_their_ranges() -> None:
    rng = np.random.default_rng(0)
    augment = replace(QUIET, hsv_h=0.015, hsv_s=0.7, hsv_v=0.4)
    drawn = np.array([random_color(rng, augment) for _ in range(4000)])
    for values, middle, half in zip(drawn.T, (0, 1, 1), (0.015, 0.7, 0.4), strict=True):
        shares = np.histogram(values, 5, (middle - half, middle + half))[0] / len(values)
        assert np.abs(shares - 0.2).max() < 0.03


def test_blend_is_the_weighted_mean() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 9, 9, 3), np.uint8)
    expected = 0.3 * first + 0.7 * second
    blend(first, second, 0.3)
    assert np.abs(first - expected).max() <= 0.51
