"""A window that shows results while they are made (``show=True``)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import cv2

from ..options.errors import UsageError
from .results import Results
from .writer import Outputs

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def check_display() -> None:
    """Raise UsageError where no window can be opened: OpenCV would end the process."""
    if sys.platform == "linux" and not any(os.environ.get(name) for name in DISPLAYS):
        raise UsageError("show=True needs a display, and there is none here: use save=True")


def shown(results: Iterator[Results], outputs: Outputs) -> Iterator[Results]:
    """The results, each shown as it is passed on."""
    try:
        for result in results:
            cv2.imshow(result.source.path.name, outputs.drawn(result)[:, :, ::-1])
            cv2.waitKey(1)
            yield result
    finally:
        cv2.destroyAllWindows()
