"""Pascal VOC: one XML file per image, with boxes as pixel corners.

A split is a folder of images or a list of ``ImageSets/Main``.  The XML lies beside its image or in
the folder ``Annotations`` beside that of the images, under the image's name.  Corners are read as
they are written: the challenge counts pixels from 1, most tools do not.  Without ``names`` the
classes are those of ``labelmap.txt`` in their order, else all names that occur, sorted.  Only
``object`` elements at the top count: a ``part`` of an object is none.  A file with a document type
is refused, so that no entity is ever expanded.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from ...files.regular import read_regular
from ..sets.dataset import Dataset, DatasetError
from ..sets.finding import Finding
from ..sets.listing import IMAGE_SUFFIXES, Listing, Stamp, list_images
from .keep import keep
from .pixel_rows import Note, Row, join_rows, size_notes
from .reader import ABSENT, Annotation, Reader, open_split, register, stamp_of
from .texts import read_text
from .xml import UnusableXml, parse_xml

IMAGE_FOLDERS = {"JPEGImages": "Annotations", "images": "annotations"}
IMAGE_ENDINGS = (*IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES))
LABELMAP, BACKGROUND = "labelmap.txt", "background"
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@register("voc")
class VocReader(Reader):
    """XML files beside folders or lists of images."""

    @classmethod
    def class_names(cls, dataset: Dataset) -> tuple[str, ...]:
        """Those of labelmap.txt, else all that occur in any split, sorted."""
        listed = _labelmap(dataset)
        if listed:
            names = tuple(name for name in listed if name != BACKGROUND)
        else:
            readers = [open_split(dataset, split) for split in dataset.splits]
            sources = {
                Path(source)
                for reader in readers
                for source, stamp in zip(
                    *reader.sources(list(reader.list_images().images)), strict=True
                )
                if stamp != ABSENT
            }
            names = tuple(keep("voc-classes", sorted(sources), partial(_names, sorted(sources))))
        if not names:
            raise DatasetError(f"{dataset.yaml}: no class name in any XML of {dataset.root}")
        return names

    @classmethod
    def class_findings(cls, dataset: Dataset) -> list[Finding]:
        """The class background of a labelmap, which no box has."""
        if BACKGROUND not in _labelmap(dataset) or BACKGROUND in dataset.class_names:
            return []
        file, message = dataset.root / LABELMAP, f"{BACKGROUND} is no class of boxes: left out"
        return [Finding("class-background", "info", file, 0, message)]

    def list_images(self) -> Listing:
        """The images of folders, and those that lists name with or without their ending."""
        lists = [path for path in self.paths if path.suffix == ".txt" and not path.is_dir()]
        if not lists:
            return list_images(self.dataset, self.split, labels=".xml")
        if len(lists) < len(self.paths):
            where = f"{self.dataset.yaml}: {self.split}"
            raise DatasetError(f"{where}: name folders or lists, not both")
        listing = Listing()
        for path in lists:
            _add_list(listing, path)
        listing.images = dict(sorted(listing.images.items()))
        return listing

    def sources(self, images: Sequence[str]) -> tuple[list[str], list[Stamp]]:
        """The XML of each image: beside it, else in the folder of annotations."""
        files, stamps = [], []
        for image in images:
            stem = os.path.splitext(image)[0]
            file, stamp = f"{stem}.xml", stamp_of(f"{stem}.xml")
            if stamp == ABSENT and (other := _in_annotations(file)) is not None:
                file, stamp = other, stamp_of(other)
            files.append(file)
            stamps.append(stamp)
        return files, stamps

    def read(self, image: str, source: str, size: tuple[int, int]) -> Annotation:
        """The objects of one XML; without a file, a background."""
        file = Path(source)
        try:
            root = parse_xml(file, "annotation")
        except FileNotFoundError:
            return join_rows([], size, file, [])
        except OSError as error:
            note = ("label-unreadable", "error", f"cannot be read: {error.strerror}")
            return join_rows([], size, file, [note])
        except UnusableXml as error:
            return join_rows([], size, file, [(error.args[0], "error", error.args[1])])
        recorded = (root.findtext("size/width"), root.findtext("size/height"))
        known = tuple(None if text in (None, "", "0") else text for text in recorded)
        notes = [*size_notes(image, (known[0], known[1]), size), *_name_notes(root, image)]
        rows = [
            self._row(f"object[{number}]", element)
            for number, element in enumerate(root.findall("object"))
        ]
        return join_rows(rows, size, file, notes)

    def unused(self, images: Iterable[Path]) -> list[Finding]:
        """XML files without an image, in the folders where XML files were expected."""
        homes: dict[str, set[str]] = {}  # folder of XML files -> folders of their images
        for folder in {str(image.parent) for image in images}:
            homes.setdefault(folder, set()).add(folder)
            if (other := _in_annotations(f"{folder}{os.sep}x.xml")) is not None:
                homes.setdefault(os.path.dirname(other), set()).add(folder)
        return [
            Finding("label-orphan", "warning", file, 0, "no image of that name")
            for home, folders in sorted(homes.items())
            for file in sorted(Path(home).glob("*.xml"))
            if not any(
                Path(folder, file.stem + suffix).exists()
                for folder in folders
                for suffix in IMAGE_ENDINGS
            )
        ]

    def _row(self, place: str, element: Element) -> Row:
        name = (element.findtext("name") or "").strip()
        notes: list[Note] = []
        label = 0
        box = _corners(element, notes)
        if not name:
            notes, box = [("class-name", "error", "no <name>")], None
        elif name not in self.dataset.class_names:
            notes, box = [("label-class-range", "error", f"class {name!r} is not in names")], None
        else:
            label = self.dataset.class_names.index(name)
        if box is not None and (element.findtext("difficult") or "").strip() in ("1", "true"):
            notes.append(("label-difficult", "info", "difficult; used"))
        return Row(place, label, box, False, math.nan, tuple(notes))


def _labelmap(dataset: Dataset) -> list[str]:
    """The names in the labelmap of CVAT and Datumaro, in order; empty without such a file."""
    file = dataset.root / LABELMAP
    lines = read_text(file).splitlines() if file.is_file() else []
    names = (line.split(":")[0].strip() for line in lines if not line.startswith("#"))
    return [name for name in names if name]


def _corners(element: Element, notes: list[Note]) -> tuple[float, ...] | None:
    boxes = element.findall("bndbox")
    if len(boxes) != 1:
        notes.append(("label-columns", "error", f"{len(boxes)} <bndbox>, expected one"))
        return None
    numbers = []
    for corner in CORNERS:
        text = boxes[0].findtext(corner)
        try:
            number = float("" if text is None or "_" in text else text)
        except ValueError:
            notes.append(("label-number", "error", f"{corner} is {text!r:.40}, expected a number"))
            return None
        if not math.isfinite(number):
            notes.append(("label-not-finite", "error", f"{corner}: {text!r:.40} is not finite"))
            return None
        numbers.append(number)
    left, right = sorted(numbers[0::2])
    top, bottom = sorted(numbers[1::2])
    if left == right or top == bottom:
        notes.append(("label-zero-area", "error", "no width or no height"))
        return None
    if [left, top, right, bottom] != numbers:
        message = "the corners are exchanged; read as the same rectangle"
        notes.append(("box-reversed", "warning", message))
    return left, top, right, bottom


def _name_notes(root: Element, image: str) -> list[Note]:
    """A warning where the XML names another file than the image it lies with."""
    name = (root.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
    if name in ("", os.path.basename(image), os.path.splitext(os.path.basename(image))[0]):
        return []
    message = f"<filename> is {name[:60]!r}; {os.path.basename(image)} is used, by the XML's name"
    return [("image-name", "warning", message)]


def _in_annotations(file: str) -> str | None:
    """The path with its last folder of images replaced by that of annotations."""
    parts = file.split(os.sep)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] in IMAGE_FOLDERS:
            return os.sep.join([*parts[:place], IMAGE_FOLDERS[parts[place]], *parts[place + 1 :]])
    return None


def _add_list(listing: Listing, path: Path) -> None:
    """Add what a list of ``ImageSets/Main`` names: ``2007_000027``, some with 1 or -1 behind it."""
    folder = path.parent.parent.parent / "JPEGImages"
    known: dict[str, str] = {}
    for file in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if file.name.lower().endswith(IMAGE_SUFFIXES):
            name = file.relative_to(folder).as_posix()
            known |= {name: str(file), os.path.splitext(name)[0]: str(file)}
    for number, line in enumerate(_lines_of(listing, path), 1):
        name = re.sub(r"\s+(-1|0|1)$", "", line.strip())
        if not name:
            continue
        if name in known:
            listing.images[known[name]] = stamp_of(known[name])
        else:
            message = f"{name!r} does not exist; looked in {folder}"
            listing.findings.append(Finding("image-missing", "error", path, number, message))


def _lines_of(listing: Listing, path: Path) -> list[str]:
    try:
        return read_regular(path).decode("utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        message = f"the list cannot be read: {error.strerror}"
        listing.findings.append(Finding("list-unreadable", "error", path, 0, message))
        return []


def _names(files: Sequence[Path]) -> list[str]:
    """The class names in XML files, sorted; a file that cannot be used has none."""
    names = set()
    for file in files:
        try:
            objects = parse_xml(file, "annotation").findall("object")
        except (OSError, UnusableXml):
            continue
        names |= {(element.findtext("name") or "").strip() for element in objects}
    return sorted(names - {""})
