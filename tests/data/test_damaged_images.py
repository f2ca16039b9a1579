"""Images that are damaged, or go away in mid-run."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scenes import LIVELY, make_records
from yolodet.datasets.batches.dataset import DetectionDataset
from yolodet.datasets.batches.loader import Loader
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
