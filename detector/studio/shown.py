"""What several pages say alike of a data set and of its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...files.text import one_line
from ..evaluate.draw import PALETTE
from .sets import OpenSet

COLORS = ["#{:02x}{:02x}{:02x}".format(*color) for color in PALETTE]
"""Of the classes in turn, as CSS has them."""


def shown_name(one: OpenSet, path: Path) -> str:
    """The name of an image for people: below the folder of its data set."""
    root = one.dataset.root if one.dataset else path.parent
    return one_line(str(path.relative_to(root) if path.is_relative_to(root) else path))


def about_set(one: OpenSet, classes: Sequence[str]) -> dict[str, Any]:
    """A data set with its classes, which may be more than it was read with."""
    return {
        "name": one_line(one.table.name),
        "version": one.version,
        "classes": [one_line(name) for name in classes],
        "colors": COLORS,
    }


def about_image(one: OpenSet, number: int) -> dict[str, Any]:
    """An image of a data set by its number."""
    record = one.table.records[number]
    height, width = record.size
    name = shown_name(one, record.path)
    return {"n": number, "name": name, "height": height, "width": width}
