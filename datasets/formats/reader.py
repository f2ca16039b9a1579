"""Label formats: a Reader turns one split of a data set into the annotations of its images.

A format is one file: a subclass of ``Reader``, registered under the word that the YAML gives as
``format:``.  The scan, its cache and the doctor know no more of a format than this class.  Formats
of this folder are listed in ``BUILT_IN`` and imported when they are needed.
"""

from __future__ import annotations

import difflib
import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from ..sets.dataset import Dataset, DatasetError
from ..sets.finding import Finding
from ..sets.listing import Listing, Stamp, list_images

if TYPE_CHECKING:  # a data set is found without loading NumPy
    import numpy as np

DEFAULT = "yolo"
BUILT_IN = {
    "coco": "coco", "voc": "voc", "yolo": "yolo",
    "createml": "foreign.json_files", "csv": "foreign.csv_files", "cvat": "foreign.cvat",
    "datumaro": "foreign.json_files", "dota": "foreign.text_files", "kitti": "foreign.text_files",
    "huggingface": "foreign.json_files", "labelme": "foreign.labelme",
    "labelstudio": "foreign.label_studio", "supervisely": "foreign.labelme", "via": "foreign.via",
    "vott": "foreign.json_files", "widerface": "foreign.text_files",
}  # fmt: skip
"""Word after ``format:`` -> the file of this folder that registers it."""
ABSENT: Stamp = (-1, -1)
"""The stamp of a file that does not exist."""


class Annotation(NamedTuple):
    """What a format says about one image.

    boxes: [N,4] float32 xyxy pixels, inside the image.  labels: [N] int64.  findings: what is wrong
    with it; an image without boxes and with an ``error`` is left out of the split.  crowd, area:
    as in Record.
    """

    boxes: np.ndarray
    labels: np.ndarray
    findings: Sequence[Finding]
    crowd: np.ndarray | None = None
    area: np.ndarray | None = None


class UnnamedClasses(DatasetError):
    """Labels that number their classes and name them nowhere."""


class Reader(ABC):
    """One split in one label format.

    ``list_images`` and ``sources`` say what the annotations depend on: an image is read again when
    the size or time of change of itself or of its source changes.
    """

    keys: ClassVar[tuple[str, ...]] = ()
    """Keys of the YAML that only this format reads; the values are in ``Dataset.options``."""
    splits_inside: ClassVar[bool] = False
    """Whether a file says the split of each image, so that several splits may name one file."""

    def __init__(self, dataset: Dataset, split: str) -> None:
        """Opens a split.  Raises DatasetError for a split or an option that cannot be used."""
        self.dataset = dataset
        self.split = split
        self.paths = dataset.sources(split)

    @classmethod
    def accepts(cls, source: Path) -> bool:
        """Whether a split may name ``source``, which is no folder, list of images or image."""
        return False

    @classmethod
    def class_names(cls, dataset: Dataset) -> tuple[str, ...]:
        """The classes, in order, of a data set whose YAML does not name them."""
        raise DatasetError(f"{dataset.yaml}: names is missing: list the class names in order")

    @classmethod
    def class_findings(cls, dataset: Dataset) -> list[Finding]:
        """What the doctor reports about the classes as the label files list them."""
        return []

    @property
    def index_files(self) -> Sequence[Path]:
        """Files that alone decide which images there are, such as one JSON for the whole split.

        As long as they do not change, ``list_images`` is not called again.
        """
        return ()

    def list_images(self) -> Listing:
        """The images of the split: by default what lies in its folders and lists."""
        return list_images(self.dataset, self.split)

    @abstractmethod
    def sources(self, images: Sequence[str]) -> tuple[list[str], list[Stamp]]:
        """For each image the file that annotates it and that file's stamp, ABSENT if it has none.

        Called with all images of the split, and must not read what is in the files.
        """

    @abstractmethod
    def read(self, image: str, source: str, size: tuple[int, int]) -> Annotation:
        """The annotation of one image of ``size`` (height, width).

        Called from several threads.  Never raises for what is in a file: that is a finding.
        """

    def unused(self, images: Iterable[Path]) -> list[Finding]:
        """What the doctor reports about annotations that belong to none of the images."""
        return []

    def shared_mistake(
        self, flawed: Mapping[str, set[str]], count: int, labels: set[int]
    ) -> Finding | None:
        """A mistake that nearly all annotations share, such as another order of columns.

        flawed: source -> ids of its findings.  count: images with an annotation.  labels: the class
        ids that were read.
        """
        return None


_READERS: dict[str, type[Reader]] = {}


def register(name: str) -> Callable[[type[Reader]], type[Reader]]:
    """Make a Reader the one for ``format: name``; a class decorator."""

    def add(reader: type[Reader]) -> type[Reader]:
        _READERS[name] = reader
        return reader

    return add


def check_format(name: str) -> None:
    """Raise DatasetError for a word that is no label format."""
    known = sorted({*BUILT_IN, *_READERS})
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise DatasetError(f"unknown format {name!r}; choose from {', '.join(known)}{hint}")


def find_reader(name: str) -> type[Reader]:
    """The Reader of a label format; raises DatasetError for a word that is none."""
    check_format(name)
    if name not in _READERS:
        importlib.import_module(f".{BUILT_IN[name]}", __package__)
    return _READERS[name]


def open_split(dataset: Dataset, split: str) -> Reader:
    """The reader of one split of a data set; raises DatasetError."""
    return find_reader(dataset.format)(dataset, split)


def stamp_of(path: str | Path) -> Stamp:
    """Size in bytes and time of change in nanoseconds of a file, ABSENT if there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ABSENT
    return status.st_size, status.st_mtime_ns
