"""Folders and files in the layout of MOTChallenge.

A sequence is a folder with ``gt/gt.txt``, images in ``img1/`` and ``seqinfo.ini``.  A row is
``frame,id,x,y,w,h,mark or score,class,visibility``: frames count from 1, x and y are the top left
corner in pixels.
"""

from __future__ import annotations

import configparser
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...datasets.formats.texts import read_text
from ...files.errors import InputError
from ..options.errors import UsageError

if TYPE_CHECKING:  # det val asks whether a folder is one before NumPy is loaded
    import numpy as np

IMAGES, TRUTH, DETECTIONS, ABOUT = "img1", "gt/gt.txt", "det/det.txt", "seqinfo.ini"
COLUMNS = 9
"""Of a row in memory: those that a file leaves out are filled."""
LARGEST = 1e9
"""The largest number of a row; NaN is none."""
DEFAULTS = (1.0, 1.0, 1.0)
"""Mark, class and visibility of a row that has none."""


class MotError(InputError):
    """A file that is not in MOT layout."""


@dataclass(frozen=True)
class Sequence:
    """A video with known tracks.

    fps, size (height, width) and length (frames) are those of seqinfo.ini, None where it says none.
    """

    folder: Path
    fps: float | None = None
    size: tuple[int, int] | None = None
    length: int | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def images(self) -> Path:
        return self.folder / IMAGES

    @property
    def truth(self) -> Path:
        return self.folder / TRUTH


def find_sequences(text: str) -> list[Sequence]:
    """The sequence, or the sequences inside a folder, that ``data=`` names.  Raises UsageError."""
    folder = Path(text)
    if not folder.is_dir():
        raise UsageError(f"data={text}: no such folder (looked in {Path().absolute()})")
    if (folder / TRUTH).is_file():
        return [sequence_of(folder.resolve())]
    found = _inside(folder)
    if not found:
        raise UsageError(
            f"data={text}: no {TRUTH} in it or in the folders inside: expected a sequence in MOT "
            "layout or a folder of sequences"
        )
    return [sequence_of(path) for path in found]


def is_mot_folder(text: str | None) -> bool:
    """Whether ``data=`` names a sequence in MOT layout or a folder of sequences."""
    folder = Path(text or "")
    return text is not None and ((folder / TRUTH).is_file() or bool(_inside(folder)))


def _inside(folder: Path) -> list[Path]:
    return sorted(path.parents[1] for path in folder.glob(f"*/{TRUTH}"))


def sequence_of(folder: Path) -> Sequence:
    """A sequence with what its seqinfo.ini says.  Raises MotError where that cannot be read."""
    path = folder / ABOUT
    if not path.is_file():
        return Sequence(folder)
    parser = configparser.ConfigParser(interpolation=None)
    text = read_text(path)
    try:
        parser.read_string(text)
        about = parser["Sequence"] if parser.has_section("Sequence") else parser["DEFAULT"]
        fps, length = about.getfloat("frameRate"), about.getint("seqLength")
        height, width = about.getint("imHeight"), about.getint("imWidth")
    except (configparser.Error, ValueError) as error:
        why = str(error).splitlines()[0]
        raise MotError(
            f"{path}: expected frameRate, seqLength, imWidth, imHeight ({why})"
        ) from None
    size = (height, width) if height and width and min(height, width) > 0 else None
    return Sequence(folder, fps if fps and 0 < fps < math.inf else None, size, length)


def read_rows(path: Path) -> np.ndarray:
    """The rows [N,9] float64 of a file, in its order.  Raises MotError."""
    import numpy as np

    if not path.is_file():
        raise MotError(f"{path}: no such file")
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = [word for word in line.replace(",", " ").replace(";", " ").split() if word]
        if not words:
            continue
        try:
            values = [float(word) for word in words[:COLUMNS]]
        except ValueError:
            values = []
        good = len(values) >= 6 and all(abs(v) <= LARGEST for v in values) and values[0] >= 1
        if not good or values[0] != int(values[0]) or values[1] != int(values[1]):
            raise MotError(f"{path}:{number}: expected frame,id,x,y,w,h,... and frames from 1")
        rows.append([*values, *DEFAULTS[len(values) - 6 :]])
    return np.array(rows, np.float64).reshape(-1, COLUMNS)


def xyxy_of(rows: np.ndarray) -> np.ndarray:
    """Corners [N,4] of rows."""
    import numpy as np

    return np.concatenate((rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]), 1)
