"""The screen as a source, read by the package mss.

``screen`` is all of it, ``screen 1`` one of several, ``screen 1 100 100 512 256`` a part: left,
top, width, height.
"""

from __future__ import annotations

import re
from importlib.util import find_spec

from .arrays import SourceError

WORD = re.compile(r"screen(?: (\d+))?(?: (-?\d+) (-?\d+) (\d+) (\d+))?")
"""Its number, left, top, width and height."""


def is_screen(text: object) -> bool:
    """Whether a source is the screen or a part of it."""
    return isinstance(text, str) and WORD.fullmatch(text) is not None


def check_screen() -> None:
    """Raise SourceError where the package is missing."""
    if find_spec("mss") is None:
        raise SourceError(
            "source=screen needs the package mss, which is not installed: "
            "pip install 'yolodet[screen]'"
        )
