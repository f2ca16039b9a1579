"""DOTA, KITTI and WIDER FACE: plain text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ...sets.dataset import DatasetError
from ...sets.listing import IMAGE_SUFFIXES
from ...sets.survey import NO_LABELS
from ..reader import register
from ..texts import read_text
from .document import Document, FolderReader, ForeignReader, hull


class _TextReader(FolderReader):
    """A text file per image, a box per line, in a folder beside that of the images."""

    records_sizes = False
    suffixes = (".txt",)
    folders: ClassVar[tuple[str, str]]
    """Names of the folders of images and of labels; that of labels may go on, as in
    ``labelTxt-v1.5``."""

    @classmethod
    @abstractmethod
    def box_of(cls, words: list[str]) -> tuple[str | None, Sequence[Any]] | None:
        """Class and corners of a line; None for a line that is no object."""

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """All texts below a folder."""
        document = Document()
        for path in cls._files(file):
            try:
                lines = read_text(path).splitlines()
            except DatasetError as error:
                document.broken(error)
                continue
            image = document.image(cls._image_of(path), labels=path)
            for number, line in enumerate(lines, 1):
                if line.strip() and (found := cls.box_of(line.split())) is not None:
                    place = f"{path.relative_to(file).as_posix()}:{number}"
                    document.box(image, *found, place)
        return {**document.to_coco(), "bare_names": True}

    @classmethod
    def _files(cls, folder: Path) -> list[Path]:
        """The label files: those in folders of the usual name, else all texts."""
        texts = [path for path in sorted(folder.rglob("*.txt")) if path.name not in NO_LABELS]
        usual = [
            path for path in texts
            if any(name.startswith(cls.folders[1]) for name in path.parent.parts)
        ]  # fmt: skip
        return usual or texts

    @classmethod
    def _image_of(cls, path: Path) -> str:
        """The image of a label file: in the folder of images, or beside; else its bare name."""
        for folder in (path.parent.parent / cls.folders[0], path.parent):
            for suffix in IMAGE_SUFFIXES:
                if (image := folder / f"{path.stem}{suffix}").is_file():
                    return str(image)
        return path.stem


@register("dota")
class DotaReader(_TextReader):
    """DOTA: ``x1 y1 x2 y2 x3 y3 x4 y4 class difficult`` in ``labelTxt``; the upright box around
    the four corners is used.  Lines such as ``gsd:0.14`` are no objects."""

    folders = ("images", "labelTxt")

    @classmethod
    def box_of(cls, words: list[str]) -> tuple[str | None, Sequence[Any]] | None:
        """The upright box around the corners."""
        if words[0].lower().startswith(("imagesource:", "gsd:")):
            return None
        corners = hull(zip(words[0:8:2], words[1:8:2], strict=False))
        return (words[8] if len(words) > 8 else None), corners or words[:4]


@register("kitti")
class KittiReader(_TextReader):
    """KITTI: ``type truncated occluded alpha x1 y1 x2 y2 ...`` in ``label_2``; regions of the type
    DontCare are no objects."""

    folders = ("image_2", "label_2")

    @classmethod
    def box_of(cls, words: list[str]) -> tuple[str | None, Sequence[Any]] | None:
        """Columns 5 to 8."""
        return None if words[0] == "DontCare" else (words[0], words[4:8])


@register("widerface")
class WiderFaceReader(ForeignReader):
    """WIDER FACE: a name, a count, then ``x y w h`` and six flags per face."""

    suffixes = (".txt",)
    records_sizes = False

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """Faces that are marked invalid count neither way in the evaluation, as a crowd."""
        document = Document(["face"])
        lines = enumerate(read_text(file).splitlines(), 1)
        for _, line in lines:
            if not line.strip():
                continue
            image = document.image(_in_split(file, line.strip()))
            number, word = next(lines, (0, ""))
            if not word.strip().isdecimal():
                raise DatasetError(f"{file}:{number}: expected the number of faces")
            for _ in range(max(int(word), 1)):  # with 0 faces a row of zeros follows
                number, row = next(lines, (0, ""))
                words = row.split()
                if int(word) == 0:
                    continue
                try:
                    x, y, width, height = map(float, words[:4])
                    box: Any = (x, y, x + width, y + height)
                except ValueError:
                    box = words[:4]
                invalid = len(words) > 7 and words[7] == "1"
                document.box(image, "face", box, f"line {number}", crowd=invalid)
        return document.to_coco()


def _in_split(file: Path, name: str) -> str:
    """An image of WIDER FACE: below ``WIDER_train/images`` or the like, if one of them has it."""
    places = [folder / name for folder in sorted(file.parent.parent.glob("WIDER_*/images"))]
    found = [path for path in places if path.is_file()]
    return str(found[0]) if len(found) == 1 else name
