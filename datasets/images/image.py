"""Image files to RGB arrays, and fitting an image into the network's input.

One way to read (``read_image``) and one way to fit (``letterbox``), used by training, validation,
prediction and export alike, so that what is measured is what is used.  The orientation is read and
applied here and not left to the decoder, whose versions differ in which formats they turn.
Coordinates are continuous: pixel i covers [i, i + 1].

Not supported: animations (the first frame is used), formats that OpenCV was built without.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from ...files.errors import DetError
from ...files.limits import available_memory
from ...files.regular import open_regular, read_regular
from ..nouns import Letterbox
from .damage import Heard
from .damage import listen as hear
from .depth import AUTO, RAW, to_8_bits
from .header import Header, bit_depth, read_header, tiff_size
from .mapped import mapped_image

MOST_PIXELS = 200_000_000
"""A larger image is refused before it is decoded: 600 MB, three times the largest cameras."""
MOST_IN_TILES = 2**30
"""The same where only its tiles are looked at; OpenCV decodes no more."""
REDUCED_FROM = 50_000_000
"""A JPEG with more pixels is decoded at a reduced size for training: 150 MB and more otherwise."""
TAKES_ARRAY = "dst" in (cv2.imread.__doc__ or "")
"""Whether OpenCV can decode into an array, as it can since 4.11."""
STRIP = 2**24
"""Pixels of an image that change their order of colors at once."""
REDUCED = {
    1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}  # fmt: skip
"""By how much smaller -> OpenCV's flag."""
JPEG = b"\xff\xd8"
PRINTING = (JPEG, b"II*\0", b"MM\0*")
"""How the formats begin whose decoders only print damage: JPEG and TIFF."""
HEIC = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"))
"""How the files of phones begin, after their first four bytes."""
FILL = 114
"""Gray level around letterboxed and composed images."""
CENTER, CORNER = "center", "top-left"
"""Where an image lies in the network's input; the names that checkpoints use."""


class ImageError(DetError):
    """An image file that cannot be used; the message names the file."""


def read_image(
    path: Path, *, listen: bool = False, most: int = MOST_PIXELS, pixels: str = AUTO
) -> np.ndarray:
    """[H,W,3] uint8 RGB, contiguous, turned as its EXIF orientation says.

    Gray images become RGB, alpha is dropped, and more than 8 bits become 8 by the rule ``pixels``
    (depth.py).  listen: notice damage that the decoder only
    prints, which allows one image at a time in the process.  most: pixels that are allowed; an
    image of more than MOST_PIXELS must also fit into the memory that is free, unless it can be
    mapped (mapped.py; then it is read-only).
    Raises ImageError for a file that is missing, empty, damaged, too large or not an image.
    """
    if most > MOST_PIXELS and pixels in (AUTO, RAW):
        image = mapped_image(path)
        if image is not None and MOST_PIXELS < image.shape[0] * image.shape[1] <= most:
            return image
    return _read(path, listen, None, pixels, most)[0]


def read_scaled(
    path: Path,
    size: tuple[int, int],
    image_size: int | tuple[int, int],
    *,
    listen: bool = False,
    pixels: str = AUTO,
) -> np.ndarray:
    """The image as by ``read_image``, scaled to just fit ``image_size`` (a side, or h and w).

    size: (height, width) that it must have.  A JPEG of more than REDUCED_FROM pixels is decoded at
    a reduced size (``_divisor``).  Raises ImageError, also for another size.
    """
    scaled = scaled_size(size, image_size)
    image, found = _read(path, listen, max(scaled), pixels)
    if found != size:
        raise ImageError(
            f"{path}: is {found[1]} x {found[0]} px, was {size[1]} x {size[0]} when the data set "
            "was scanned; scan it again"
        )
    return resize(image, scaled)


def _read(
    path: Path, listen: bool, side: int | None, pixels: str, most: int = MOST_PIXELS
) -> tuple[np.ndarray, tuple[int, int]]:
    """The image, which may be decoded smaller where only ``side`` pixels are needed, and its whole
    (height, width)."""
    try:
        data = read_regular(path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
    header = read_header(io.BytesIO(data))
    _check_header(path, header, most)
    if header is None:
        _check_pixels(path, *tiff_size(data), most)
    divisor = 1 if header is None or side is None else _divisor(data, header, side)
    flags = REDUCED[divisor] | (cv2.IMREAD_IGNORE_ORIENTATION if header else 0)
    height, width = (header.height, header.width) if header else tiff_size(data)
    large = height * width > MOST_PIXELS and TAKES_ARRAY
    if pixels != RAW and divisor == 1:
        flags |= cv2.IMREAD_ANYDEPTH
    heard, prints = Heard(), data[:4].startswith(PRINTING)
    with hear() if listen and prints else contextlib.nullcontext(heard) as heard:
        if large:
            bits = bit_depth(data) if flags & cv2.IMREAD_ANYDEPTH else 8
            data = b""  # the file is not held beside its pixels
            image = _decode_large(path, (height, width), flags, bits)
        else:
            image = _decode(path, data, flags)
    if heard.damage:
        raise ImageError(f"{path}: damaged ({heard.damage}); copy or export it again")
    image = _as_rgb(image if pixels == RAW else to_8_bits(image, pixels, reuse=large))
    if header is None:
        return image, (image.shape[0], image.shape[1])
    return orient(image, header.orientation), header.size


def _as_rgb(image: np.ndarray) -> np.ndarray:
    """BGR as RGB.  A large image changes in place, strip by strip, and is never held twice."""
    height, width = image.shape[:2]
    rows = max(STRIP // width, 1)
    if rows >= height:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    for start in range(0, height, rows):
        strip = image[start : start + rows]
        strip[:] = cv2.cvtColor(strip, cv2.COLOR_BGR2RGB)
    return image


def _divisor(data: bytes, header: Header, side: int) -> int:
    """By how much a file may be decoded smaller: 8, 4, 2, or 1 for not at all.

    Only a JPEG, whose decoder then never makes the whole image; only above REDUCED_FROM pixels;
    only down to twice ``side``; and only by what divides both sides, so that every pixel is the
    mean of a whole block and nothing moves.
    """
    height, width = header.height, header.width
    if height * width <= REDUCED_FROM or not data.startswith(JPEG):
        return 1
    most = max(height, width) // (2 * side)
    return max(by for by in REDUCED if by == 1 or (by <= most and not height % by | width % by))


def read_usable(
    paths: Iterable[Path], say: Callable[[str], None], pixels: str = AUTO
) -> Iterator[np.ndarray]:
    """The images that can be read whole, as by ``read_image``; the others are named to ``say``.

    Raises ImageError where there is none.
    """
    last: ImageError | None = None
    count = 0
    for path in paths:
        try:
            image = read_image(path, listen=True, pixels=pixels)
        except ImageError as error:
            say(f"skipped: {error}")
            last = error
            continue
        count += 1
        yield image
    if not count and last is not None:
        raise last


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) after EXIF orientation, from the header or, of a rare format, by decoding.

    Raises ImageError for a file that is missing, empty, cut short or not an image.
    """
    try:
        with open_regular(path) as file:
            header = read_header(file)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
    if header is None:
        height, width = read_image(path).shape[:2]
        return height, width
    _check_header(path, header)
    return header.size


def _check_header(path: Path, header: Header | None, most: int = MOST_PIXELS) -> None:
    if header is None:
        return
    _check_pixels(path, header.height, header.width, most)
    if not header.whole:
        raise ImageError(f"{path}: cut short (the end of the image is missing); copy it again")


def _check_pixels(path: Path, height: int, width: int, most: int = MOST_PIXELS) -> None:
    what = f"{path}: {width} x {height} pixels"
    if height * width > most:
        fix = "cut it into smaller images or scale it down"
        fix += "" if most > MOST_PIXELS else " (det predict looks at it in tiles: tile=640)"
        raise ImageError(f"{what} are more than det decodes ({most:,}); {fix}")
    if height * width > MOST_PIXELS:
        _check_memory(path, height, width, 3)


def _check_memory(path: Path, height: int, width: int, each: int) -> None:
    """Raise ImageError where an image of ``each`` bytes per pixel does not fit into memory."""
    if each * height * width > (free := available_memory()):
        needs = f"{1e-9 * each * height * width:.1f} GB of memory, and {1e-9 * free:.1f} GB are"
        raise ImageError(
            f"{path}: {width} x {height} pixels take {needs} free; cut it into smaller images or "
            "scale it down"
        )


def _decode(path: Path, data: bytes, flags: int) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise ImageError(f"{path}: cannot be decoded ({error.err})") from None
    if image is None and data[4:12] in HEIC:
        return _decode_heic(path, data)
    if image is None:
        raise ImageError(f"{path}: not an image that OpenCV can decode ({len(data)} bytes)")
    return image


def _decode_large(path: Path, size: tuple[int, int], flags: int, bits: int) -> np.ndarray:
    """[H,W,3] BGR, decoded into its array: what OpenCV decodes from memory exists twice.  bits: of
    a value, up to 16; more than 8 need memory for 16."""
    if bits > 16:
        raise ImageError(
            f"{path}: values of {bits} bits; an image of {size[1]} x {size[0]} pixels is read with "
            "8 or 16: convert it"
        )
    if bits > 8:
        _check_memory(path, *size, 6)
    image = np.empty((*size, 3), np.uint16 if bits > 8 else np.uint8)
    try:
        found = cv2.imread(str(path), image, flags)
    except cv2.error as error:
        raise ImageError(f"{path}: cannot be decoded ({error.err})") from None
    if found is None:
        raise ImageError(f"{path}: not an image that OpenCV can decode")
    return found


def _decode_heic(path: Path, data: bytes) -> np.ndarray:
    """[H,W,3] BGR of a photograph of a phone, turned by the decoder."""
    if find_spec("pillow_heif") is None:
        raise ImageError(
            f"{path}: a HEIC image needs the package pillow-heif, which is not installed: "
            "pip install 'yolodet[heic]', or convert it to JPEG"
        )
    import pillow_heif

    try:
        image = pillow_heif.read_heif(io.BytesIO(data), bgr_mode=True)
        _check_pixels(path, image.size[1], image.size[0])
        pixels = np.asarray(image)
    except (ValueError, OSError, EOFError) as error:
        raise ImageError(f"{path}: cannot be decoded ({error})") from None
    return np.ascontiguousarray(pixels[:, :, :3])


def orient(image: np.ndarray, orientation: int) -> np.ndarray:
    """The image as seen from the image as stored, orientations 1..8 (Exif 2.32, tag 0x0112)."""
    if orientation == 2:
        return cv2.flip(image, 1)
    if orientation == 3:
        return cv2.rotate(image, cv2.ROTATE_180)
    if orientation == 4:
        return cv2.flip(image, 0)
    if orientation == 5:
        return cv2.transpose(image)
    if orientation == 6:
        return cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)
    if orientation == 7:
        return cv2.flip(cv2.transpose(image), -1)
    if orientation == 8:
        return cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return image


def scaled_size(size: tuple[int, int], image_size: int | tuple[int, int]) -> tuple[int, int]:
    """(h, w) of an image of ``size`` scaled to just fit ``image_size`` (a side, or h and w)."""
    gain = _gain(size, image_size)
    return max(1, round(size[0] * gain)), max(1, round(size[1] * gain))


def _gain(size: tuple[int, int], image_size: int | tuple[int, int]) -> float:
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return min(height / size[0], width / size[1])


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H,W,3] to ``size`` (h, w): by area when it shrinks (no aliasing), bilinear when it grows."""
    if image.shape[:2] == size:
        return image
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size[1], size[0]), interpolation=how)


def resize_to(image: np.ndarray, image_size: int | tuple[int, int]) -> np.ndarray:
    """[H,W,3] scaled to just fit ``image_size`` (a side, or h and w), aspect kept."""
    height, width = image.shape[:2]
    return resize(image, scaled_size((height, width), image_size))


def fit(
    size: tuple[int, int],
    image_size: int | tuple[int, int],
    align: str = CENTER,
    shape: tuple[int, int] | None = None,
) -> Letterbox:
    """How an image of ``size`` (h, w) lies in an input of ``image_size``: CENTER or CORNER.

    shape: (h, w) of the input, where it is not the whole ``image_size``.
    The scaled image is a whole number of pixels high and wide while the gain is exact: the pads are
    fractional so that the difference is shared between opposite edges, at most 0.25 px each.
    """
    shape = shape or ((image_size, image_size) if isinstance(image_size, int) else image_size)
    height, width = shape
    gain = _gain(size, image_size)
    new_height, new_width = scaled_size(size, image_size)
    top, left = _offsets((height - new_height, width - new_width), align)
    pad_y = top + (new_height - size[0] * gain) / 2
    pad_x = left + (new_width - size[1] * gain) / 2
    return Letterbox(gain=gain, pad_x=pad_x, pad_y=pad_y)


def _offsets(spare: tuple[int, int], align: str) -> tuple[int, int]:
    """(top, left) of an image that leaves ``spare`` (h, w) pixels of its input free."""
    if align not in (CENTER, CORNER):
        raise ValueError(f"align={align!r}: expected {CENTER} or {CORNER}")
    return (spare[0] // 2, spare[1] // 2) if align == CENTER else (0, 0)


def letterbox(
    image: np.ndarray,
    image_size: int | tuple[int, int],
    *,
    fill: int = FILL,
    align: str = CENTER,
    shape: tuple[int, int] | None = None,
) -> tuple[np.ndarray, Letterbox]:
    """The image scaled to fit ``image_size`` (a side, or h and w), on gray.

    image: [H,W,3] uint8.  shape: (h, w) of the input; default: the whole ``image_size``.
    Returns [h,w,3] uint8 and the Letterbox that maps the image to it.
    """
    height, width = image.shape[:2]
    scaled = resize(image, scaled_size((height, width), image_size))
    return (
        place(scaled, shape or image_size, fill=fill, align=align),
        fit((height, width), image_size, align, shape),
    )


def place(
    image: np.ndarray,
    image_size: int | tuple[int, int],
    *,
    fill: int = FILL,
    align: str = CENTER,
    output: np.ndarray | None = None,
) -> np.ndarray:
    """An image that already fits, on gray of ``image_size``; in ``output`` if given."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    new_height, new_width = image.shape[:2]
    top, left = _offsets((height - new_height, width - new_width), align)
    bottom, right = height - new_height - top, width - new_width - left
    gray = (fill, fill, fill)
    how = cv2.BORDER_CONSTANT
    return cv2.copyMakeBorder(image, top, bottom, left, right, how, dst=output, value=gray)


def letterbox_boxes(boxes: np.ndarray, letterbox: Letterbox) -> np.ndarray:
    """[N,4] xyxy pixels of the original image -> [N,4] float32 xyxy pixels of the input."""
    pads = (letterbox.pad_x, letterbox.pad_y) * 2
    return (np.asarray(boxes, np.float64).reshape(-1, 4) * letterbox.gain + pads).astype(np.float32)
