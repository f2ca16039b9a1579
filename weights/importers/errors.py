"""Errors of importing another project's checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...files.errors import DetError


@dataclass(frozen=True)
class Name:
    """A global that the pickle names: module and qualified name, as text; it is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class ImportFailed(DetError):
    """The file cannot be imported; the message names the file and the reason."""


class RefusedPickle(ImportFailed):
    """The file asks to call ``wanted``, which is not allowed; nothing was called."""

    def __init__(self, path: Path, wanted: object, how: str = "") -> None:
        self.wanted = printable(wanted)
        super().__init__(
            f"{path} is refused: it asks to call {self.wanted}{f' ({how})' if how else ''}, which "
            "weights do not need. Nothing was run. Do not load this file with torch.load."
        )


def printable(value: object) -> str:
    """A short text for a value of a file; containers are not opened."""
    if isinstance(value, str | Name):
        return str(value)[:200]
    return f"a value of type {type(value).__name__}"
