"""Facts from the header of an image file: size, EXIF orientation, and whether its end exists.

JPEG, PNG, WebP and BMP are read here by walking their segments, in some tens of microseconds per
file, so that the scan of a large data set decodes nothing.  Any other format returns None and must
be decoded.  A file whose end is missing is recognized, because decoders accept it: they return an
image that is gray from some row on.

Sources: ITU-T T.81 annex B (JPEG), PNG specification chapters 5 and 11, RFC 9649 (WebP),
Exif 2.32 section 4.6.
Not recognized: damage inside the compressed data, which only decoding finds.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

_ORIENTATION_TAG = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width


@dataclass(frozen=True)
class Header:
    """height, width: as stored.  orientation: EXIF 1..8, 1 by default.  whole: its end is there."""

    height: int
    width: int
    orientation: int = 1
    whole: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as seen, after the orientation."""
        if self.orientation in _SIDEWAYS:
            return self.width, self.height
        return self.height, self.width


def read_header(file: BinaryIO) -> Header | None:
    """The header of an image file open at its start; None for other formats and nonsense."""
    magic = file.read(16)
    try:
        if magic.startswith(b"\xff\xd8"):
            header = _jpeg(file)
        elif magic.startswith(b"\x89PNG\r\n\x1a\n"):
            header = _png(file)
        elif magic[:4] == b"RIFF" and magic[8:12] == b"WEBP":
            header = _webp(file)
        elif magic.startswith(b"BM"):
            header = _bmp(file)
        else:
            return None
    except struct.error:  # the file ends inside its own header
        return None
    return header if header is not None and header.height > 0 and header.width > 0 else None


def _unpack(layout: str, file: BinaryIO) -> tuple[int, ...]:
    """Numbers from the next bytes; struct.error where the file ends first."""
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _jpeg(file: BinaryIO) -> Header | None:
    file.seek(2)
    height = width = 0
    orientation = 1
    while True:
        start, marker = _unpack(">BB", file)
        if start != 0xFF:
            return None
        while marker == 0xFF:  # fill bytes before a marker are allowed
            (marker,) = _unpack(">B", file)
        if marker == 0xDA:  # start of scan: nothing more to learn before the pixels
            return Header(height, width, orientation, _jpeg_has_end(file))
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # markers without a length
            continue
        (length,) = _unpack(">H", file)
        following = file.tell() + length - 2
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            _, height, width = _unpack(">BHH", file)
        elif marker == 0xE1 and orientation == 1:
            orientation = exif_orientation(file.read(length - 2))
        file.seek(following)


def _jpeg_has_end(file: BinaryIO) -> bool:
    """Whether an end-of-image marker follows.  Most files end with it, a few carry more."""
    scan = file.tell()
    if file.seek(0, 2) - scan < 2:
        return False
    file.seek(-2, 2)
    if file.read(2) == b"\xff\xd9":
        return True
    file.seek(scan)
    return b"\xff\xd9" in file.read()


def _png(file: BinaryIO) -> Header | None:
    file.seek(12)
    if file.read(4) != b"IHDR":
        return None
    width, height = _unpack(">II", file)
    orientation = 1
    end = file.seek(0, 2)
    at = 8
    while at + 12 <= end:
        file.seek(at)
        (length,), kind = _unpack(">I", file), file.read(4)
        at += 12 + length
        if kind == b"eXIf":
            orientation = exif_orientation(b"Exif\0\0" + file.read(length))
        if kind == b"IEND":
            return Header(height, width, orientation, at <= end)
    return Header(height, width, orientation, whole=False)


def _webp(file: BinaryIO) -> Header | None:
    file.seek(4)
    (riff_length,) = _unpack("<I", file)
    end = file.seek(0, 2)
    height = width = 0
    orientation = 1
    at = 12
    while at + 8 <= end:
        file.seek(at)
        kind, (length,) = file.read(4), _unpack("<I", file)
        at += 8 + length + length % 2
        if kind == b"EXIF":
            body = file.read(length)
            orientation = exif_orientation(body if body[:4] == b"Exif" else b"Exif\0\0" + body)
        elif not width:
            height, width = _webp_size(kind, file.read(10))
    return Header(height, width, orientation, riff_length + 8 <= end)


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int]:
    if kind == b"VP8X":  # canvas minus one, 24 bits each
        return int.from_bytes(body[7:10], "little") + 1, int.from_bytes(body[4:7], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", body[6:10])
        return height & 0x3FFF, width & 0x3FFF
    return 0, 0


def _bmp(file: BinaryIO) -> Header | None:
    file.seek(14)
    (length,) = _unpack("<I", file)
    if length == 12:
        width, height = _unpack("<HH", file)
        return Header(height, width)
    width, height, _, bits, compression = _unpack("<iiHHI", file)
    file.seek(10)
    (offset,) = _unpack("<I", file)
    pixels = (width * bits + 31) // 32 * 4 * abs(height) if compression == 0 else 0
    return Header(abs(height), width, whole=offset + pixels <= file.seek(0, 2))


def tiff_size(data: bytes) -> tuple[int, int]:
    """(height, width) that the first directory of a TIFF says, zeros for anything else."""
    found = tiff_numbers(data, (256, 257))  # ImageWidth, ImageLength
    return found.get(257, NOTHING)[0], found.get(256, NOTHING)[0]


def bit_depth(data: bytes | memoryview) -> int:
    """Bits of a value in a PNG or TIFF as its header says, 8 for anything else.  data: the file."""
    start = bytes(data[:25])
    if start.startswith(b"\x89PNG\r\n\x1a\n") and len(start) == 25:
        return start[24]
    return tiff_numbers(data, (258,)).get(258, (8,))[0]  # BitsPerSample


NOTHING = (0,)
MOST_NUMBERS = 1_000_000
"""Of a tag: strips of an image, at most one for each row."""


def tiff_numbers(data: bytes | memoryview, tags: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    """The numbers of each of ``tags`` in the first directory of a TIFF; {} for other files.  data:
    the file."""
    start = bytes(data[:4])
    if start not in (b"II*\0", b"MM\0*"):
        return {}
    order = "<" if start[:2] == b"II" else ">"
    found = {}
    try:
        (directory,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, amount = struct.unpack_from(order + "HHI", data, entry)
            if tag in tags and 0 < amount <= MOST_NUMBERS:  # short or long numbers
                layout = f"{order}{amount}{'H' if kind == 3 else 'I'}"
                place = entry + 8
                if struct.calcsize(layout) > 4:  # they are elsewhere
                    (place,) = struct.unpack_from(order + "I", data, place)
                found[tag] = struct.unpack_from(layout, data, place)
    except struct.error:
        return {}
    return found


def exif_orientation(block: bytes) -> int:
    """Orientation 1..8 from an EXIF block (``Exif``, two zeros, a TIFF structure); 1 if none."""
    if block[:6] != b"Exif\0\0" or block[6:8] not in (b"II", b"MM"):
        return 1
    order = "<" if block[6:8] == b"II" else ">"
    tiff = block[6:]
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if tag == _ORIENTATION_TAG:
                return value if 1 <= value <= 8 else 1
    except struct.error:  # a cut or wrong directory: no orientation rather than no image
        return 1
    return 1
