"""The screen as a source, read by the package mss.

``screen`` is all of it, ``screen 1`` one of several, ``screen 1 100 100 512 256`` a part: left,
top, width, height.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec

import cv2
import numpy as np

from .arrays import SourceError
from .video import VideoError

_WORD = re.compile(r"screen(?: (\d+))?(?: (-?\d+) (-?\d+) (\d+) (\d+))?")


def is_screen(text: object) -> bool:
    """Whether a source is the screen or a part of it."""
    return isinstance(text, str) and _WORD.fullmatch(text) is not None


def check_screen() -> None:
    """Raise SourceError where the package is missing."""
    if find_spec("mss") is None:
        raise SourceError(
            "source=screen needs the package mss, which is not installed: "
            "pip install 'yolodet[screen]'"
        )


class ScreenReader:
    """Frames of a screen, as ``VideoReader`` gives those of a camera; it has no end.

    Raises VideoError where there is no such screen, or none at all.
    """

    fps = total = None
    lasting = True

    def __init__(self, address: str, *, shown: str | None = None) -> None:
        import mss
        from mss.exception import ScreenShotError

        match = _WORD.fullmatch(address)
        assert match is not None
        self._error = ScreenShotError
        try:
            self._screens = mss.mss()
            known = self._screens.monitors
        except ScreenShotError as error:
            raise VideoError(f"{address}: there is no screen ({error})") from error
        number = int(match[1] or 0)
        if number >= len(known):
            raise VideoError(f"{address}: there are {len(known) - 1} screens, and 0 for all")
        self._area = dict(known[number])
        if match[2] is not None:
            left, top, width, height = (int(match[at]) for at in range(2, 6))
            place = {"left": self._area["left"] + left, "top": self._area["top"] + top}
            self._area = {**place, "width": width, "height": height}
        self._address = address

    def frames(self, stride: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        """(number from 0, image [H,W,3] uint8 RGB), as fast as they are taken."""
        number = 0
        while True:
            try:
                image = np.asarray(self._screens.grab(self._area))
            except self._error as error:
                raise VideoError(f"{self._address}: cannot be read ({error})") from error
            yield number, cv2.cvtColor(image, cv2.COLOR_BGRA2RGB)
            number += stride

    def __enter__(self) -> ScreenReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._screens.close()
