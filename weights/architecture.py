"""The architecture of a detector as plain JSON: enough to build the model again.

Family and size name the graph: which blocks, in which order.  The channels of every convolution,
the number of classes and the branches of the head are listed, so a pruned model can be described
too.  ``detector/models/build.py`` builds models from it.  Values are checked against limits here,
before anything is built: a file may be hostile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..files.errors import DetError

MAX_CLASSES = 65_536
MAX_CHANNELS = 16_384
MAX_CONVOLUTIONS = 5_000
MAX_BINS = 64
MAX_TEXT = 200


class ArchitectureError(DetError):
    """An architecture is malformed, or no model can be built from it."""


@dataclass(frozen=True)
class Architecture:
    """One detector.

    family, size: of the graph, such as ``yolo26`` and ``n``.  reg_max: bins per box side (1: plain
    distances).  branches: of the head.  widths: path of a convolution -> input channels, output
    channels, groups.  heads: path of a self-attention -> number of its heads.
    """

    family: str
    size: str
    num_classes: int
    reg_max: int
    branches: tuple[str, ...]
    widths: Mapping[str, tuple[int, int, int]]
    heads: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the model whose graph this is."""
        return model_name(self.family, self.size)

    @staticmethod
    def from_plain(value: Any) -> Architecture:
        """The inverse of ``dataclasses.asdict``, also after JSON.  Raises ArchitectureError."""
        if not isinstance(value, dict):
            raise ArchitectureError("the architecture is not an object")
        try:
            widths, heads = _mapping(value["widths"], "widths"), _mapping(value["heads"], "heads")
            branches = value["branches"]
            if not isinstance(branches, list | tuple) or not 0 < len(branches) <= 8:
                raise ArchitectureError("branches is not a list of up to 8 names")
            return Architecture(
                family=_text(value["family"], "family"),
                size=_text(value["size"], "size"),
                num_classes=_number(value["num_classes"], "num_classes", MAX_CLASSES),
                reg_max=_number(value["reg_max"], "reg_max", MAX_BINS),
                branches=tuple(_text(branch, "branches") for branch in branches),
                widths={path: _channels(path, each) for path, each in widths.items()},
                heads={path: _number(n, path, MAX_CHANNELS) for path, n in heads.items()},
            )
        except KeyError as error:
            raise ArchitectureError(f"the architecture has no {error.args[0]}") from error


def model_name(family: str, size: str) -> str:
    """``yolo26`` and ``n`` -> ``yolo26n``; YOLOX writes its sizes as words: ``yolox_nano``."""
    return f"{family}_{size}" if family == "yolox" else family + size


def _channels(path: str, value: Any) -> tuple[int, int, int]:
    """Check input channels, output channels and groups of one convolution."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ArchitectureError(f"{path} needs three numbers: channels in, channels out, groups")
    c_in, c_out, groups = (_number(each, path, MAX_CHANNELS) for each in value)
    if c_in % groups or c_out % groups:
        raise ArchitectureError(f"{path}: {groups} groups do not divide {c_in} and {c_out}")
    return c_in, c_out, groups


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > MAX_CONVOLUTIONS:
        raise ArchitectureError(f"{what} is not an object of up to {MAX_CONVOLUTIONS} entries")
    for key in value:
        _text(key, what)
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise ArchitectureError(f"{what} is not a text of up to {MAX_TEXT} characters")
    return value


def _number(value: Any, what: str, limit: int) -> int:
    if type(value) is not int or not 1 <= value <= limit:
        shown = value if type(value) is int and abs(value) < 10**12 else type(value).__name__
        raise ArchitectureError(f"{what} has {shown}: expected a whole number from 1 to {limit}")
    return value
