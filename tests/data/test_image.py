"""Reading images: what comes out is what a person sees, and what cannot be read says so."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from rows import each
from yolodet.datasets.images.image import (
    ImageError,
    image_size,
    letterbox,
    letterbox_boxes,
    place,
    read_image,
    resize_to,
    scaled_size,
)

RED, GREEN, BLUE = (250, 10, 20), (15, 240, 30), (25, 35, 230)


def four_corners(height: int = 48, width: int = 64) -> np.ndarray:
    """An image that shows which way up it is: red, green / blue, black."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    image[height // 2 :, : width // 2] = BLUE
    return image


def encode(image: np.ndarray, suffix: str, *parameters: int) -> bytes:
    """The file of an RGB image."""
    found, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), list(parameters))
    assert found
    return data.tobytes()


def exif(orientation: int, order: str = "<") -> bytes:
    """A TIFF structure with a description, the orientation and an entry after it."""
    mark = b"II" if order == "<" else b"MM"
    entries = [
        (0x010E, 2, 4, b"abc\0"),
        (0x0112, 3, 1, struct.pack(order + "HH", orientation, 0)),
        (0x0213, 3, 1, struct.pack(order + "HH", 1, 0)),
    ]
    rows = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    head = mark + struct.pack(order + "HI", 42, 8)
    return head + struct.pack(order + "H", len(entries)) + rows + b"\0\0\0\0"


def jpeg_with_exif(data: bytes, tiff: bytes) -> bytes:
    body = b"Exif\0\0" + tiff
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def png_with_exif(data: bytes, tiff: bytes) -> bytes:
    """The eXIf chunk goes last but one, after the pixels, which is allowed."""
    chunk = struct.pack(">I", len(tiff)) + b"eXIf" + tiff
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    return data[:-12] + chunk + data[-12:]


def webp_with_exif(data: bytes, tiff: bytes, size: tuple[int, int]) -> bytes:
    canvas = (size[1] - 1).to_bytes(3, "little") + (size[0] - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + canvas
    block = b"EXIF" + struct.pack("<I", len(tiff)) + tiff + b"\0" * (len(tiff) % 2)
    body = b"WEBP" + extended + data[12:] + block
    return b"RIFF" + struct.pack("<I", len(body)) + body


def as_seen(image: np.ndarray, orientation: int) -> np.ndarray:
    """Exif 2.32: where the stored first row and first column are on the seen image."""
    turned = {
        1: image,  # top, left
        2: image[:, ::-1],  # top, right
        3: image[::-1, ::-1],  # bottom, right
        4: image[::-1],  # bottom, left
        5: image.transpose(1, 0, 2),  # left, top
        6: image.transpose(1, 0, 2)[:, ::-1],  # right, top
        7: image[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: image.transpose(1, 0, 2)[::-1],  # left, bottom
    }
    return turned[orientation]


@each("orientation", range(1, 9))
@each("order", "<>")
def test_jpeg_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, order: str) -> None:
    stored = encode(four_corners(), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95)
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg_with_exif(stored, exif(orientation, order)))
    seen = as_seen(four_corners(), orientation)
    image = read_image(path)
    assert image.shape == seen.shape
    assert np.abs(image.astype(int) - seen).mean() < 6  # JPEG blurs the edges of colors
    assert image_size(path) == seen.shape[:2]
    assert image.flags.c_contiguous


@each("orientation", [1, 3, 6, 7])
def test_png_and_webp_are_turned_as_their_exif_says(tmp_path: Path, orientation: int) -> None:
    image, tiff = four_corners(), exif(orientation)
    (tmp_path / "a.png").write_bytes(png_with_exif(encode(image, ".png"), tiff))
    lossless = encode(image, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101)
    (tmp_path / "a.webp").write_bytes(webp_with_exif(lossless, tiff, image.shape[:2]))
    for name in ("a.png", "a.webp"):
        assert np.array_equal(read_image(tmp_path / name), as_seen(image, orientation)), name
        assert image_size(tmp_path / name) == as_seen(image, orientation).shape[:2], name


@each(
    "block", [exif(0), exif(9), b"", b"II*\0", exif(6)[:14], b"XX" + exif(6)[2:]]
)
def test_senseless_exif_leaves_the_image_as_it_is(tmp_path: Path, block: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg_with_exif(encode(four_corners(), ".jpg"), block))
    assert image_size(path) == read_image(path).shape[:2] == (48, 64)


@each("suffix", [".png", ".bmp", ".tif", ".webp", ".ppm", ".jp2"])
def test_lossless_formats_come_back_exactly_as_rgb(tmp_path: Path, suffix: str) -> None:
    parameters = {".webp": (cv2.IMWRITE_WEBP_QUALITY, 101), ".jp2": ()}.get(suffix, ())
    path = tmp_path / f"image{suffix}"
    path.write_bytes(encode(four_corners(), suffix, *parameters))
    assert np.array_equal(read_image(path), four_corners())
    assert image_size(path) == (48, 64)


@pytest.mark.parametrize(
    "parameters", [(cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1), ()]
)
def test_size_of_jpeg_variants(tmp_path: Path, parameters: tuple[int, ...]) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(encode(four_corners(33, 57), ".jpg", *parameters))
    assert image_size(path) == read_image(path).shape[:2] == (33, 57)


def test_size_of_lossy_webp_and_upside_down_bmp(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(encode(four_corners(33, 57), ".webp"))
    bitmap = bytearray(encode(four_corners(), ".bmp"))
    bitmap[22:26] = struct.pack("<i", -48)
    (tmp_path / "a.bmp").write_bytes(bitmap)
    assert image_size(tmp_path / "a.webp") == read_image(tmp_path / "a.webp").shape[:2] == (33, 57)
    assert image_size(tmp_path / "a.bmp") == (48, 64)
    assert np.array_equal(read_image(tmp_path / "a.bmp"), four_corners()[::-1])


def test_sizes_come_from_headers_and_not_from_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix in (".jpg", ".png", ".bmp", ".webp"):
        (tmp_path / f"image{suffix}").write_bytes(encode(four_corners(), suffix))
    monkeypatch.delattr(cv2, "imdecode")
    for suffix in (".jpg", ".png", ".bmp", ".webp"):
        assert image_size(tmp_path / f"image{suffix}") == (48, 64)


def test_gray_deep_and_transparent_images_become_8_bit_rgb(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(48, 0)
    deep = ramp.astype(np.uint16) * 257
    rgba = np.dstack((four_corners()[..., ::-1], ramp))
    grays = {"gray.png": ramp, "gray.jpg": ramp, "deep.png": deep, "deep.tif": deep}
    for name, image in {**grays, "alpha.png": rgba}.items():
        assert cv2.imwrite(str(tmp_path / name), image)
    for name in grays:
        image = read_image(tmp_path / name)
        assert image.shape == (48, 64, 3) and image.dtype == np.uint8
        assert np.abs(image.astype(int) - ramp[..., None]).max() <= 1
    assert np.array_equal(read_image(tmp_path / "alpha.png"), four_corners())


@each("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_every_cut_of_a_file_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    """Decoders would return an image that is gray from some row on."""
    data = encode(np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8), suffix)
    path = tmp_path / f"cut{suffix}"
    for length in [*range(0, 80), *range(80, len(data) - 2, 41), len(data) - 2]:
        path.write_bytes(data[:length])
        with pytest.raises(ImageError, match=f"cut{suffix}"):
            read_image(path)
        with pytest.raises(ImageError, match=f"cut{suffix}"):
            image_size(path)


def test_cut_is_noticed_behind_a_whole_thumbnail(tmp_path: Path) -> None:
    """The thumbnail in the EXIF block has an end marker of its own."""
    stored = encode(four_corners(), ".jpg")
    whole = jpeg_with_exif(stored, exif(1) + encode(four_corners(8, 8), ".jpg"))
    (tmp_path / "whole.jpg").write_bytes(whole)
    (tmp_path / "cut.jpg").write_bytes(whole[:-40])
    assert image_size(tmp_path / "whole.jpg") == (48, 64)
    with pytest.raises(ImageError, match="cut short"):
        image_size(tmp_path / "cut.jpg")


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(four_corners(), ".jpg") + b"a film that a telephone appended" * 9)
    assert image_size(path) == read_image(path).shape[:2] == (48, 64)


@each("content", [b"", b"hello", b"<svg></svg>" * 9, b"\xff\xd8\xff\xd9", b"BM"])
def test_what_is_no_image_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.jpg"
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=r"odd\.jpg"):
            read(path)


def test_missing_file_and_folder_are_refused_by_name(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.jpg", tmp_path):
        for read in (read_image, image_size):
            with pytest.raises(ImageError, match=f"{path.name}: cannot be read"):
                read(path)


@each("size", [(480, 640), (333, 500), (90, 61), (37, 41), (641, 640)])
@each("image_size", [320, 321, (256, 416)])
def test_letterboxed_boxes_lie_where_the_pixels_are(
    size: tuple[int, int], image_size: int | tuple[int, int]
) -> None:
    """The image's own outline, and a white square on black, found again in the pixels."""
    image = np.zeros((*size, 3), np.uint8)
    x0, y0, x1, y1 = square = (size[1] // 4, size[0] // 3, size[1] * 3 // 4, size[0] * 2 // 3)
    image[y0:y1, x0:x1] = 255
    fitted, box = letterbox(image, image_size)
    assert fitted.shape[:2] == ((image_size,) * 2 if isinstance(image_size, int) else image_size)
    inside = (fitted[..., 0] != 114).nonzero()
    found = (inside[1].min(), inside[0].min(), inside[1].max() + 1, inside[0].max() + 1)
    whole = letterbox_boxes(np.array([[0, 0, size[1], size[0]]]), box)[0]
    assert np.abs(whole - found).max() <= 0.251
    bright = (fitted[..., 0] > 127).nonzero()
    found = (bright[1].min(), bright[0].min(), bright[1].max() + 1, bright[0].max() + 1)
    assert np.abs(letterbox_boxes(np.array([square]), box)[0] - found).max() <= 1.01


def test_letterbox_centers_on_gray_and_equals_scaling_then_placing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 90, 3), np.uint8)
    fitted, box = letterbox(image, 180)
    assert (box.gain, box.pad_x, box.pad_y) == (2.0, 0.0, 60.0)
    assert (fitted[:60] == 114).all() and (fitted[120:] == 114).all()
    assert np.array_equal(fitted, place(resize_to(image, 180), 180))
    into = np.empty((180, 180, 3), np.uint8)
    assert place(resize_to(image, 180), 180, output=into) is into
    assert np.array_equal(into, fitted)
    assert (letterbox(image, (40, 100), fill=7)[0][:3] == 7).all()


def test_resize_to_sets_the_long_side_and_averages_when_shrinking() -> None:
    assert resize_to(np.zeros((50, 100, 3), np.uint8), 64).shape == (32, 64, 3)
    assert resize_to(np.zeros((100, 50, 3), np.uint8), 200).shape == (200, 100, 3)
    assert scaled_size((1, 1000), 32) == (1, 32)
    checkers = (np.indices((96, 96)).sum(0) % 2 * 255).astype(np.uint8)
    small = resize_to(np.dstack([checkers] * 3), 32)
    assert small.min() > 100 and small.max() < 160  # gray, where sampling would show a pattern
