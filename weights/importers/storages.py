"""The numbers of a checkpoint's tensors: storages by key, read from a zip archive or a stream."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .errors import ImportFailed, Name, RefusedPickle, printable

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}


@dataclass
class Storage:
    """Numbers of the file; tensors are views of them."""

    dtype: torch.dtype
    values: torch.Tensor


class Storages:
    """Storages by key: read from an archive at first use, or from a stream (``fill``)."""

    def __init__(self, path: Path, read: Callable[[str], bytes] | None) -> None:
        self.path = path
        self.read = read
        self._made: dict[str, Storage] = {}
        self._bytes = 0

    def storage(self, identity: Any) -> Storage:
        """The storage of ("storage", type, key, device, numel[, view])."""
        if not isinstance(identity, tuple) or len(identity) not in (5, 6):
            raise RefusedPickle(self.path, "a persistent object", "of an unknown kind")
        kind, key, numel = identity[1], identity[2], identity[4]
        known = isinstance(kind, Name) and kind.module in ("torch", "torch.storage")
        if not known or kind.name not in DTYPES:
            raise RefusedPickle(self.path, kind, "as a storage")
        if not isinstance(key, str) or not isinstance(numel, int) or numel < 0:
            raise ImportFailed(f"{self.path} is damaged: it names a storage without key or length")
        if len(identity) == 6 and identity[5] is not None:
            raise ImportFailed(f"{self.path} shares storages by views: save it with a newer torch")
        if key not in self._made:
            self._made[key] = self._make(key, DTYPES[kind.name], numel)
        return self._made[key]

    def _make(self, key: str, dtype: torch.dtype, numel: int) -> Storage:
        size = numel * dtype.itemsize
        if self.read is None:  # the numbers come after the pickles: ``fill`` reads them
            self._bytes += size
            if self._bytes > self.path.stat().st_size:
                raise ImportFailed(
                    f"{self.path} is truncated: a storage of {size} bytes is missing"
                )
            values = torch.zeros(numel, dtype=dtype)
        else:
            data = self.read(key)
            if len(data) != size:
                raise ImportFailed(
                    f"{self.path} is damaged: storage {key} has {len(data)} bytes, not {size}"
                )
            values = torch.frombuffer(bytearray(data or b"\0" * 8), dtype=dtype)[:numel]
        return Storage(dtype, values)

    def fill(self, stream: io.BytesIO, keys: list[Any]) -> None:
        """Read the numbers that follow the pickles: per key a count (int64) and the bytes."""
        for key in keys:
            if not isinstance(key, str) or key not in self._made:
                raise ImportFailed(f"{self.path} is damaged: an unknown storage {printable(key)}")
            storage = self._made[key]
            (count,) = struct.unpack("<q", _exactly(stream, 8, self.path))
            if count != len(storage.values):
                raise ImportFailed(f"{self.path} is damaged: storage {key} has {count} numbers")
            data = _exactly(stream, count * storage.dtype.itemsize, self.path)
            if count:
                storage.values.copy_(torch.frombuffer(bytearray(data), dtype=storage.dtype))


def _exactly(stream: io.BytesIO, count: int, path: Path) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise ImportFailed(f"{path} is truncated: {count - len(data)} bytes are missing")
    return data
