"""DOTA, KITTI and WIDER FACE: plain text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...sets.dataset import DatasetError
from ...sets.listing import IMAGE_SUFFIXES
from ..reader import register
from ..texts import read_text
from .document import Document, FolderReader, ForeignReader, hull


class _TextReader(FolderReader):
    """A text file per image in a folder beside that of the images."""

    records_sizes = False
    suffixes = (".txt",)
    folders = ("", "")
    """Names of the folders of images and of labels."""

    @classmethod
    def files(cls, folder: Path) -> Iterator[tuple[str, str, list[tuple[int, list[str]]]]]:
        """Image, label file (both relative to ``folder``) and its lines, numbered and split."""
        images, labels = cls.folders
        for path in sorted(folder.rglob(f"{labels}/*.txt")):
            image = path.parent.parent / images / path.stem
            found = next((image.with_name(image.name + s) for s in IMAGE_SUFFIXES
                          if image.with_name(image.name + s).is_file()), image)  # fmt: skip
            text = read_text(path)
            lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), 1)]
            place = path.relative_to(folder).as_posix()
            yield found.relative_to(folder).as_posix(), place, [row for row in lines if row[1]]

    def label_file(self, image: Path) -> Path:
        """The text in the other folder."""
        return image.parent.parent / self.folders[1] / f"{image.stem}.txt"


@register("dota")
class DotaReader(_TextReader):
    """DOTA: ``x1 y1 x2 y2 x3 y3 x4 y4 class difficult`` in ``labelTxt``; the upright box around
    the four corners is used."""

    folders = ("images", "labelTxt")

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """All texts below a folder; lines such as ``gsd:0.14`` say nothing about boxes."""
        document = Document()
        for name, place, lines in cls.files(file):
            image = document.image(name)
            for number, words in lines:
                if words[0].lower().startswith(("imagesource:", "gsd:")):
                    continue
                corners = hull(zip(words[0:8:2], words[1:8:2], strict=False))
                label = words[8] if len(words) > 8 else None
                document.box(image, label, corners or words[:4], f"{place}:{number}")
        return document.to_coco()


@register("kitti")
class KittiReader(_TextReader):
    """KITTI: ``type truncated occluded alpha x1 y1 x2 y2 ...`` in ``label_2``."""

    folders = ("image_2", "label_2")

    @classmethod
    def document(cls, file: Path, split: str) -> dict[str, Any]:
        """All texts below a folder; regions of the type DontCare are left out."""
        document = Document()
        for name, place, lines in cls.files(file):
            image = document.image(name)
            for number, words in lines:
                if words[0] != "DontCare":
                    document.box(image, words[0], words[4:8], f"{place}:{number}")
        return document.to_coco()


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
            image = document.image(line.strip())
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
