"""Images that are damaged, or go away in mid-run."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scenes import LIVELY, make_records
from yolodet.datasets.batches.dataset import DetectionDataset
from yolodet.datasets.batches.loader import Loader
from yolodet.datasets.images import image
from yolodet.datasets.images.image import ImageError, read_image


def test_a_run_ends_where_most_images_are_gone(tmp_path: Path) -> None:
    records = make_records(tmp_path, 5)
    for record in records[:3]:
        record.path.unlink()
    data = DetectionDataset(records, 64, augment=LIVELY)
    with pytest.raises(ImageError, match="3 of 5 images cannot be read any more"):
        list(Loader(data, 5, shuffle=False, workers=0).epoch(0))


def test_half_a_jpeg_with_an_end_is_noticed(tmp_path: Path) -> None:
    """The decoder only prints it; so it does about a TIFF."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    smooth = cv2.resize(noise, (600, 400))
    for suffix in (".jpg", ".tif"):
        path = tmp_path / f"a{suffix}"
        assert cv2.imwrite(str(path), smooth)
        whole = bytearray(path.read_bytes())
        assert read_image(path, listen=True).shape == (400, 600, 3)
        if suffix == ".jpg":
            path.write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
        else:
            place = len(whole) * 3 // 10
            path.write_bytes(whole[:place] + bytes(60) + whole[place + 60 :])
        with pytest.raises(ImageError, match="damaged"):
            read_image(path, listen=True)


def test_a_huge_jpeg_is_decoded_smaller_and_nothing_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only above the stated number of pixels, and only by what divides both sides."""
    decoded: list[tuple[int, ...]] = []

    def decode(*words: object) -> np.ndarray:
        found = real(*words)
        decoded.append(found.shape[:2])
        return found

    real = image._decode
    monkeypatch.setattr(image, "_decode", decode)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    for size, divided in (((1200, 1600), 8), ((1204, 1604), 4), ((1201, 1600), 1)):
        path = tmp_path / "a.jpg"
        scene = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
        scene[::50], scene[:, 800:803] = 0, 255
        assert cv2.imwrite(str(path), scene)
        monkeypatch.setattr(image, "REDUCED_FROM", 50_000_000)
        whole = image.read_scaled(path, size, 96)
        assert np.array_equal(whole, image.resize_to(read_image(path), 96))
        monkeypatch.setattr(image, "REDUCED_FROM", 1_000_000)
        small = image.read_scaled(path, size, 96)
        assert decoded.pop() == (size[0] // divided, size[1] // divided)
        differences = [
            np.abs(np.roll(small, shift, 1)[:, 2:-2].astype(int) - whole[:, 2:-2]).mean()
            for shift in (0, -1, 1)
        ]
        assert differences[0] < 4 and min(differences) == differences[0]
        image.read_scaled(path, size, 900)
        assert decoded[-1] == size, "a reduced image has twice the pixels that are needed"
        assert read_image(path).shape[:2] == size, "prediction needs every pixel"


def test_a_huge_jpeg_that_has_another_size_by_now_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "REDUCED_FROM", 1000)
    path = tmp_path / "a.jpg"
    assert cv2.imwrite(str(path), np.zeros((160, 240, 3), np.uint8))
    assert image.read_scaled(path, (160, 240), 32).shape == (21, 32, 3)
    with pytest.raises(ImageError, match="is 240 x 160 px, was 480 x 320 when"):
        image.read_scaled(path, (320, 480), 32)
