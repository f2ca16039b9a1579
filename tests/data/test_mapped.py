"""TIFFs that are mapped instead of decoded: the same pixels, and only where that is certain."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from rows import each
from scenes import smooth_image
from yolodet.datasets.images import image as image_module
from yolodet.datasets.images.image import read_image
from yolodet.datasets.images.mapped import mapped_image

PLAIN = [cv2.IMWRITE_TIFF_COMPRESSION, 1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An uncompressed TIFF of several strips."""
    path = tmp_path / "a.tif"
    assert cv2.imwrite(str(path), smooth_image(300, 400, 0)[..., ::-1], PLAIN)
    return path


def test_a_giant_is_the_file_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = read_image(path)
    assert wanted.flags.writeable
    monkeypatch.setattr(image_module, "MOST_PIXELS", 100_000)
    monkeypatch.setattr(image_module, "available_memory", lambda: 0)
    found = read_image(path, most=200_000)
    assert isinstance(found, np.memmap) and np.array_equal(found, wanted)
    with pytest.raises(image_module.ImageError, match="more than det decodes"):
        read_image(path, most=110_000)
    with pytest.raises(image_module.ImageError, match="of memory"):
        read_image(path, most=200_000, pixels="minmax")


def test_files_of_others_are_mapped_too(tmp_path: Path) -> None:
    image = smooth_image(60, 50, 1)
    Image.fromarray(image).save(tmp_path / "a.tiff")
    assert np.array_equal(mapped_image(tmp_path / "a.tiff"), image)


@each("image", [
    lambda x: x[..., 0], lambda x: x.astype(np.uint16), lambda x: np.dstack((x, x[..., :1])),
])  # fmt: skip
def test_other_pixels_are_decoded(image, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    assert cv2.imwrite(str(path), image(smooth_image(60, 50, 1)), PLAIN)
    assert mapped_image(path) is None


def test_compressed_turned_and_damaged_files_are_decoded(path: Path, tmp_path: Path) -> None:
    image = smooth_image(60, 50, 1)
    assert cv2.imwrite(str(tmp_path / "lzw.tif"), image, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    Image.fromarray(image).save(tmp_path / "turned.tif", tiffinfo={274: 6})
    whole = path.read_bytes()
    (directory,) = struct.unpack_from("<I", whole, 4)
    (count,) = struct.unpack_from("<H", whole, directory)
    (tmp_path / "cut.tif").write_bytes(whole[: directory + 40])
    (tmp_path / "empty.tif").write_bytes(b"")
    hostile = bytearray(whole)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from("<H", whole, entry)[0] in (273, 279):  # a billion strips
            struct.pack_into("<I", hostile, entry + 4, 10**9)
    (tmp_path / "hostile.tif").write_bytes(hostile)
    shifted = bytearray(whole)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, amount, place = struct.unpack_from("<HHII", whole, entry)
        if tag == 273 and amount > 1:  # the second strip lies elsewhere
            layout = "<H" if kind == 3 else "<I"
            struct.pack_into(layout, shifted, place + struct.calcsize(layout), 9)
    (tmp_path / "shifted.tif").write_bytes(shifted)
    assert shifted != whole and mapped_image(path) is not None
    for name in ("lzw", "turned", "cut", "empty", "hostile", "shifted", "missing"):
        assert mapped_image(tmp_path / f"{name}.tif") is None, name
    assert mapped_image(path.rename(path.with_suffix(".png"))) is None
