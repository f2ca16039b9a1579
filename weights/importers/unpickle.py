"""Read a PyTorch checkpoint that holds pickled objects, without unpickling it.

Python's unpickler imports modules and calls functions that the file names.  This reader has its own
interpreter (``pickle_machine``), which does neither: objects of known module classes become
``Stub``s with their attributes, tensors are rebuilt from bounds-checked parts of the file
(``storages``, ``rebuild``), and any other call is refused (``RefusedPickle``).

Both layouts of ``torch.save`` are read: the zip archive, and the plain stream of torch before 1.6.
Not supported: sparse, quantized and subclassed tensors, TorchScript, sharded files.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from ...files.regular import open_regular, read_regular
from .errors import ImportFailed
from .pickle_machine import Machine
from .storages import Storages

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_PICKLE = 256 * 2**20
"""Size limit of the pickle in bytes; the numbers of the tensors are stored outside it."""
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, OverflowError),
    *(NotImplementedError, RuntimeError),
)
"""Exceptions that zipfile and torch raise for a damaged file."""


def read_checkpoint(path: Path) -> Any:
    """Read a file written by ``torch.save``: plain values, tensors (on the CPU) and Stubs.

    Raises RefusedPickle if the file asks for a call that is not part of rebuilding tensors, and
    ImportFailed if it is not a checkpoint, is damaged, or would unpack to more than its size.
    """
    with open_regular(path) as file:
        magic = file.read(4)
    try:
        return _read_archive(path) if magic == ZIP_MAGIC else _read_stream(path)
    except _DAMAGE as error:
        raise ImportFailed(f"{path} is damaged: {error}; get the file again") from error


def _read_archive(path: Path) -> Any:
    """The zip layout: ``NAME/data.pkl`` and one uncompressed entry per storage."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        _check_entries(path, archive.infolist())
        pickles = [name for name in entries if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            raise ImportFailed(f"{path} is a zip file without data.pkl: not a PyTorch checkpoint")
        root = pickles[0].removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in entries and archive.read(order).strip() != b"little":
            raise ImportFailed(f"{path} holds big-endian numbers: convert them to little-endian")
        if entries[pickles[0]].file_size > MAX_PICKLE:
            raise ImportFailed(f"{path} holds a pickle of more than {MAX_PICKLE >> 20} MiB")

        def storage(key: str) -> bytes:
            name = f"{root}data/{key}"
            if name not in entries:
                raise ImportFailed(f"{path} is damaged: it lacks {name}; get the file again")
            return archive.read(name)

        return Machine(path, Storages(path, storage)).run(archive.read(pickles[0]))


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Raise ImportFailed for duplicate entries and compressed ones (torch.save compresses none)."""
    if len({entry.filename for entry in entries}) != len(entries):
        raise ImportFailed(f"{path} is refused: two of its entries have the same name")
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    total = sum(entry.file_size for entry in entries)
    if packed or total > path.stat().st_size:
        what = f"entry {packed[0]} is compressed" if packed else f"unpacks to {total} bytes"
        raise ImportFailed(f"{path} is refused as a zip bomb: {what}, which torch.save never does")


def _read_stream(path: Path) -> Any:
    """The layout before torch 1.6: five pickles, then the numbers of each storage."""
    data = read_regular(path)
    stream = io.BytesIO(data)
    storages = Storages(path, None)
    machine = Machine(path, storages)
    if machine.run_next(stream) != LEGACY_MAGIC or machine.run_next(stream) != LEGACY_PROTOCOL:
        raise ImportFailed(f"{path} is not a PyTorch checkpoint: it starts with {data[:4]!r}")
    machine.run_next(stream)  # facts about the system that wrote it
    content = machine.run_next(stream)
    keys = machine.run_next(stream)
    if not isinstance(keys, list):
        raise ImportFailed(f"{path} is damaged: it has no list of storages")
    storages.fill(stream, keys)
    return content
