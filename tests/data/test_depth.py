"""Images of more than 8 bits: the range that is used is what is seen, everywhere alike."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from rows import each
from scenes import smooth_image
from yolodet.datasets.batches.dataset import DetectionDataset
from yolodet.datasets.formats.record import Record
from yolodet.datasets.images import depth
from yolodet.datasets.images import image as image_module
from yolodet.datasets.images.depth import to_8_bits
from yolodet.datasets.images.image import ImageError, read_image
from yolodet.datasets.images.input_size import InputSize
from yolodet.detector.predict.sources import open_source


@each("kind", [np.uint8, np.uint16])
@each(("rule", "cut"), [("minmax", 0.0), ("percentile", 0.001)])
def test_values_are_stretched_between_two_of_them(kind: type, rule: str, cut: float) -> None:
    top = 200 if kind is np.uint8 else 3000
    image = np.random.default_rng(0).integers(30, top, (90, 70, 3)).astype(kind)
    values = np.sort(image.reshape(-1)).astype(float)
    aside = int(cut * values.size)  # so many values may be beyond each end
    low, high = values[aside], values[-1 - aside]
    expected = ((image - low) * (255 / (high - low))).round().clip(0, 255)
    assert np.abs(to_8_bits(image, rule).astype(int) - expected).max() <= 0
    if kind is np.uint8:
        assert to_8_bits(image, "auto") is image


def test_hot_pixels_floats_and_flat_images() -> None:
    image = smooth_image(64, 64, 0).astype(np.uint16) * 8 + 500
    image[0, 0], image[1, 1] = 65535, 0
    assert to_8_bits(image, "minmax").std() < 5 < 50 < to_8_bits(image, "auto").std()
    values = image.astype(np.float32) / 1000 - 7
    near = np.abs(to_8_bits(values, "minmax").astype(int) - to_8_bits(image, "minmax"))
    assert near.max() <= 1
    values[2, 2] = np.nan, np.inf, -np.inf
    near = np.abs(to_8_bits(values, "minmax").astype(int) - to_8_bits(image, "minmax"))
    assert near[4:].max() <= 1
    for flat in (np.full((4, 5), 900, np.uint16), np.full((4, 5), np.nan, np.float32)):
        assert not to_8_bits(flat, "auto").any()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 12])
def test_16_bit_files_of_fewer_bits_are_seen(tmp_path: Path, suffix: str, bits: int) -> None:
    """The same picture from a file, an array and a data set; divided by 256 it is black."""
    plain = smooth_image(48, 64, 1)
    plain[0, :2] = [[0], [255]]
    deep = plain.astype(np.uint16) << (bits - 8)
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), deep[..., ::-1])
    assert read_image(path, pixels="raw").max() <= (1 if bits == 8 else 16)  # OpenCV rounds in TIFF
    assert np.array_equal(read_image(path, pixels="minmax"), plain)
    seen = read_image(path)
    assert np.abs(seen.astype(int) - plain).mean() < 12
    (frame,) = open_source(deep[..., ::-1])
    assert np.array_equal(frame.image, seen)
    record = Record(path, (48, 64), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    data = DetectionDataset([record], InputSize(64, 64, step=16), augment=None)
    assert np.array_equal(data[0, 0, 0].image, seen)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@each("rule", ["auto", "minmax", "percentile", "raw"])
@each("gray", [False, True])
def test_an_image_that_is_only_seen_in_tiles_is_stretched_too(
    suffix: str, rule: str, gray: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A giant of 16 bits as by the decoder of smaller ones; part by part, in its own memory."""
    deep = smooth_image(90, 130, 2).astype(np.uint16) * 8 + 300
    deep[3, 4], deep[5, 6] = 40_000, 3
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), deep[..., 0] if gray else deep)
    wanted = read_image(path, pixels=rule)
    monkeypatch.setattr(image_module, "MOST_PIXELS", 5_000)
    monkeypatch.setattr(depth, "AT_ONCE", 1_000)
    monkeypatch.setattr(image_module, "STRIP", 2_000)
    assert np.array_equal(read_image(path, pixels=rule, most=10**6), wanted)
    monkeypatch.setattr(image_module, "available_memory", lambda: 5 * 90 * 130)
    if rule == "raw":
        assert np.array_equal(read_image(path, pixels=rule, most=10**6), wanted)
        return
    with pytest.raises(ImageError, match=r"0\.0 GB of memory"):
        read_image(path, pixels=rule, most=10**6)


def test_an_image_of_floats_that_is_only_seen_in_tiles_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    assert cv2.imwrite(str(path), smooth_image(90, 130, 2).astype(np.float32))
    monkeypatch.setattr(image_module, "MOST_PIXELS", 5_000)
    with pytest.raises(ImageError, match="values of 32 bits"):
        read_image(path, most=10**6)


@each("kind", [np.uint8, np.uint16, np.float32])
@each("rule", ["minmax", "percentile"])
def test_images_in_memory_and_frames_are_stretched_as_files_are(
    kind: type, rule: str, tmp_path: Path
) -> None:
    """An array, one with alpha, a tensor, a PIL image, and a frame of a video."""
    image = (smooth_image(48, 64, 3) // 4 + 30).astype(kind)
    path = tmp_path / ("a.tif" if kind is np.float32 else "a.png")
    assert cv2.imwrite(str(path), image[..., ::-1])
    wanted = read_image(path, pixels=rule)
    assert wanted.max() == 255
    alpha = np.full((48, 64, 1), 255).astype(kind)
    sources = [image[..., ::-1], np.concatenate((image[..., ::-1], alpha), 2)]
    if kind is np.uint8:
        sources += [Image.fromarray(image), torch.from_numpy(image).permute(2, 0, 1)]
    for source in sources:
        (frame,) = open_source(source, pixels=rule)
        assert np.array_equal(frame.image, wanted)
    if kind is np.uint16:
        gray = image[..., 0]
        (frame,) = open_source(Image.fromarray(gray), pixels=rule)
        assert np.array_equal(frame.image, np.repeat(to_8_bits(gray, rule)[..., None], 3, 2))
    if kind is np.uint8:
        codec = cv2.VideoWriter.fourcc(*"MJPG")
        made = cv2.VideoWriter(str(tmp_path / "a.avi"), codec, 5, (64, 48))
        made.write(image[..., ::-1])
        made.release()
        (plain,) = open_source(tmp_path / "a.avi")
        (frame,) = open_source(tmp_path / "a.avi", pixels=rule)
        assert np.array_equal(frame.image, to_8_bits(plain.image, rule)) and plain.image.max() < 110
