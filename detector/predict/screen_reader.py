"""Frames of the screen (``screen.py`` says how it is named)."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from .screen import WORD
from .video import VideoError


class ScreenReader:
    """Frames of a screen, as ``VideoReader`` gives those of a camera; it has no end.

    Raises VideoError where there is no such screen, or none at all.
    """

    fps = total = None
    lasting = True

    def __init__(self, address: str, *, shown: str | None = None) -> None:
        import mss
        from mss.exception import ScreenShotError

        match = WORD.fullmatch(address)
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
