"""What can be wrong with another project's checkpoint, and how its names are spelled out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...files.errors import DetError


@dataclass(frozen=True)
class Name:
    """A global of the file: module and qualified name.  It is text; nothing was imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class ImportFailed(DetError):
    """The file is no checkpoint that can be read; the message names the file and what is wrong."""


class RefusedPickle(ImportFailed):
    """The file asks to run code; ``wanted`` is what it wanted to call, and nothing was called."""

    def __init__(self, path: Path, wanted: object, how: str = "") -> None:
        self.wanted = spell(wanted)
        super().__init__(
            f"{path} is refused: it wants to call {self.wanted}{f' ({how})' if how else ''}, which "
            "reading weights never needs. Nothing was run. Do not load this file with torch.load."
        )


def spell(value: object) -> str:
    """A short text for a value of a file: never a walk through what it holds."""
    if isinstance(value, str | Name):
        return str(value)[:200]
    return f"a value of type {type(value).__name__}"
