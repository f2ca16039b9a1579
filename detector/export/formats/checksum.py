"""A checksum inside an exported file, so that a changed bit is noticed before the file is used.

The metadata of a file hold UNSEALED until it is complete; then its SHA-256 takes that place, byte
for byte, and whoever checks puts UNSEALED back.  That works wherever metadata lie in the file as
they are (ONNX, OpenVINO, TensorRT, Core ML); it covers all parts of what is several files or a
folder.  Zip archives (torch, TFLite) have a CRC-32 of each entry
instead, which torch does not check by itself; what stands before the archive, the model of TFLite,
is covered by an entry with its SHA-256.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ....files.regular import read_regular
from ...options.formats import ExportError
from .about import UNSEALED
from .tflite import FOLDER, MODEL_SHA256

PREFIX = f"{FOLDER}/{MODEL_SHA256}"
"""Entry of a zip archive: of the bytes before the archive."""


def seal(files: Sequence[Path]) -> None:
    """Write the checksum of ``files`` into the one among them that holds the metadata."""
    for path in parts_of(files):
        if zipfile.is_zipfile(path):
            continue
        content = path.read_bytes()
        if content.count(UNSEALED.encode()) == 1:
            digest = digest_of(files)
            path.write_bytes(content.replace(UNSEALED.encode(), digest.encode()))


def parts_of(files: Sequence[Path]) -> list[Path]:
    """``files``, with what is in a folder in its place, by name."""
    parts: list[Path] = []
    for path in files:
        inside = sorted(part for part in path.rglob("*") if part.is_file())
        parts += inside if path.is_dir() else [path]
    return parts


def digest_of(files: Sequence[Path], sealed: str = UNSEALED) -> str:
    """SHA-256 of ``files``, in this order, with UNSEALED in place of ``sealed``."""
    digest = hashlib.sha256()
    for path in parts_of(files):
        digest.update(read_regular(path).replace(sealed.encode(), UNSEALED.encode()))
    return digest.hexdigest()


def check(files: Sequence[Path], checksum: str) -> None:
    """Raise ExportError where ``files`` have changed since they were sealed.  checksum: from their
    metadata."""
    main = files[-1]
    if main.is_file() and zipfile.is_zipfile(main):
        intact = archive_intact(main)
    else:
        intact = checksum in (UNSEALED, digest_of(files, checksum))
    if not intact:
        raise ExportError(
            f"{main} does not match its checksum: it is damaged or was changed after det export "
            "wrote it; export it again"
        )


def archive_intact(path: Path) -> bool:
    """Whether every entry of a zip archive, and what stands before it, is as it was written."""
    try:
        with zipfile.ZipFile(path) as archive:
            start = min((entry.header_offset for entry in archive.infolist()), default=0)
            if archive.testzip() is not None:
                return False
            if PREFIX not in archive.namelist():
                return True
            with path.open("rb") as file:
                before = hashlib.sha256(file.read(start)).hexdigest()
            return archive.read(PREFIX).decode() == before
    except (zipfile.BadZipFile, UnicodeDecodeError, ValueError, EOFError, OSError):
        return False
