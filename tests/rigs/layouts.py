"""Data sets laid out as beginners lay them out: small drawn photographs with cells, and 40 ways to
get their labels wrong, each with the words that det's first line must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from label_files import (
    NAMES,
    SIZE,
    Box,
    coco,
    corners,
    createml,
    csv,
    joined,
    labelme,
    shares,
    swap,
    voc,
    yolo,
)  # fmt: skip

YAML = "train: images/train\nval: images/val\nnames: [Platelets, RBC, WBC]\n"
COUNT = 5
"""Images of train; val has two."""


@dataclass
class Place:
    """A folder with drawn images, and their boxes by image."""

    root: Path
    boxes: dict[Path, list[Box]] = field(default_factory=dict)

    def draw(self, train: str = "images/train", val: str = "images/val", end: str = ".jpg") -> None:
        rng = np.random.default_rng(0)
        for folder, count in ((train, COUNT), (val, 2)):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                path = self.root / folder / f"cell{number}-{'tv'[folder == val]}{end}"
                self.boxes[path] = self._draw(rng, path)

    def _draw(self, rng: np.random.Generator, path: Path) -> list[Box]:
        image = np.full((*SIZE, 3), 215, np.uint8)
        boxes: list[Box] = []
        for label, radius in ((1, 11), (1, 9), (2, 14), (0, 4)):
            x = int(rng.integers(radius + 1, SIZE[1] - radius - 1))
            y = int(rng.integers(radius + 1, SIZE[0] - radius - 1))
            color = ((200, 60, 160), (90, 90, 220), (150, 30, 90))[label]
            cv2.circle(image, (x, y), radius, color, -1)
            boxes.append((label, x - radius, y - radius, x + radius, y + radius))
        assert cv2.imwrite(str(path), image)
        return boxes

    def label(
        self,
        row: Callable[[Box], str] | None = None,
        where: Callable[[Path], Path] | None = None,
        encoding: str = "utf-8",
    ) -> None:
        """YOLO text files.  row: how a box is written.  where: the file of an image."""
        for image, boxes in self.boxes.items():
            file = where(image) if where else swap(image, "images", "labels", ".txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{(row or yolo)(box)}\n" for box in boxes), encoding)

    def yaml(self, text: str = YAML, name: str = "data.yaml") -> Path:
        (self.root / name).write_text(text)
        return self.root / name


def beside(kind: Callable[[Path, list[Box]], str], end: str, folder: str = "") -> Callable:
    """A layout with one file per image beside it, or in ``folder`` instead of images."""

    def make(place: Place) -> Path:
        place.draw()
        for image, boxes in place.boxes.items():
            file = swap(image, "images", folder or "images", end)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(kind(image, boxes))
        return place.yaml()

    return make


def one_file(name: str, text: Callable[[dict[Path, list[Box]]], str]) -> Callable:
    """A layout with one file for all images."""

    def make(place: Place) -> Path:
        place.draw()
        (place.root / name).parent.mkdir(parents=True, exist_ok=True)
        (place.root / name).write_text(text(place.boxes))
        return place.yaml()

    return make


def rows(row: Callable[[Box], str], text: str = YAML, encoding: str = "utf-8") -> Callable:
    """YOLO files in their place with another kind of row."""

    def make(place: Place) -> Path:
        place.draw()
        place.label(row, encoding=encoding)
        return place.yaml(text)

    return make


def labels_in(folder: str, end: str = ".txt") -> Callable:
    """YOLO files in another folder than labels."""

    def make(place: Place) -> Path:
        place.draw()
        place.label(where=lambda image: swap(image, "images", folder, end))
        return place.yaml()

    return make


def images_in(folder: str) -> Callable:
    """Images in another folder than images."""

    def make(place: Place) -> Path:
        place.draw(f"{folder}/train", f"{folder}/val")
        place.label(where=lambda image: swap(image, folder, "labels", ".txt"))
        return place.yaml(YAML.replace("images/", f"{folder}/"))

    return make


def described(text: str, data: str = "") -> Callable:
    """Good images and labels, another YAML.  data: what is named instead of the YAML."""

    def make(place: Place) -> Path:
        place.draw()
        place.label()
        file = place.yaml(text)
        return place.root / data if data else file

    return make


def _flat_labels(place: Place) -> Path:
    place.draw()
    place.label(where=lambda image: place.root / "labels" / f"{image.stem}.txt")
    return place.yaml()


def _double_ending(place: Place) -> Path:
    place.draw()
    place.label(where=lambda image: swap(image, "images", "labels", ".jpg.txt"))
    return place.yaml()


def _other_names(place: Place) -> Path:
    place.draw()
    place.label(where=lambda i: swap(i, "images", "labels", ".txt").with_stem(f"frame_{i.stem}"))
    return place.yaml()


def _no_labels(place: Place) -> Path:
    place.draw()
    return place.root


def _no_names(place: Place) -> Path:
    place.draw()
    place.label()
    return place.root


def _darknet(place: Place) -> Path:
    place.draw("data", "data")
    place.label(where=lambda image: image.with_suffix(".txt"))
    (place.root / "train.txt").write_text("data/cell0-t.jpg\n")
    (place.root / "obj.data").write_text("classes = 3\ntrain = train.txt\nnames = obj.names\n")
    return place.root / "obj.data"


def _two_families(place: Place) -> Path:
    place.draw()
    place.label()
    (place.root / "instances.json").write_text(coco(place.boxes))
    return place.root


def _archive(place: Place) -> Path:
    (place.root / "set.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    return place.root / "set.zip"


def _heic(place: Place) -> Path:
    for split in ("train", "val"):
        (place.root / "images" / split).mkdir(parents=True)
        for number in range(3):
            (place.root / "images" / split / f"{number}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    return place.yaml()


def _is_options(place: Place) -> Path:
    return place.yaml("epochs: 3\nbatch: 4\nimgsz: 64\n")


def _results(place: Place) -> Path:
    file = place.root / "predictions.json"
    file.write_text('[{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 0.5}]')
    return file


@dataclass(frozen=True)
class Layout:
    """make: draws it and returns what is typed after data=.  kind, fix: words of the first line."""

    make: Callable[[Place], Path]
    kind: str
    fix: str


LAYOUTS: dict[str, Layout] = {
    "voc-beside": Layout(beside(voc, ".xml"), "labels are Pascal VOC XML", "line format: voc"),
    "voc-annotations": Layout(
        beside(voc, ".xml", "annotations"), "labels are Pascal VOC XML", "line format: voc"
    ),
    "coco-beside": Layout(
        one_file("images/train/_annotations.coco.json", coco),
        "labels are COCO JSON",
        "det train data=",
    ),
    "coco-annotations": Layout(
        one_file("annotations/instances_train.json", coco),
        "labels are COCO JSON",
        "det train data=",
    ),
    "labelme-beside": Layout(beside(labelme, ".json"), "labels are labelme JSON", "line format: "),
    "csv": Layout(one_file("annotations.csv", csv), "labels are a CSV table", "line format: "),
    "createml": Layout(
        one_file("images/train/_annotations.createml.json", createml),
        "labels are CreateML JSON",
        "line format: ",
    ),
    "darknet": Layout(_darknet, "obj.data of darknet", "put the file there"),
    "results": Layout(_results, "a list of detections", "instances_"),
    "two-families": Layout(
        _two_families, "holds COCO JSON (instances.json) and YOLO text", "data=FILE.json"
    ),
    "labels-annotations": Layout(
        labels_in("annotations"), "labels lie in annotations/train/", "mv "
    ),
    "labels-label": Layout(labels_in("label"), "labels lie in label/train/", "mv "),
    "labels-Labels": Layout(labels_in("Labels"), "labels lie in Labels/train/", "mv "),
    "labels-txt": Layout(labels_in("images/txt"), "labels lie in images/txt/train/", "mv "),
    "labels-flat": Layout(_flat_labels, "labels lie in labels/", "mv "),
    "images-image": Layout(images_in("image"), "folder of the images is not called images", "mv "),
    "images-Images": Layout(
        images_in("Images"), "folder of the images is not called images", "mv "
    ),
    "ending-TXT": Layout(labels_in("labels", ".TXT"), "label files end in .TXT", "rename"),
    "ending-jpg-txt": Layout(_double_ending, "carry the ending of their image", "rename"),
    "other-names": Layout(_other_names, "other names than the images", "give both one name"),
    "ids-from-1": Layout(
        rows(lambda b: joined(b[0] + 1, shares(b))),
        "class ids count from 1",
        "put a name for class 0",
    ),
    "ids-words": Layout(
        rows(lambda b: joined(NAMES[b[0]], shares(b))), "classes are written as words", "1 for RBC"
    ),
    "corners": Layout(
        rows(lambda b: joined(b[0], corners(b))), "boxes are corners (x1 y1 x2 y2)", "cx=(x1+x2)/2"
    ),
    "corner-size": Layout(
        rows(lambda b: joined(b[0], (*corners(b)[:2], *shares(b)[2:]))),
        "boxes begin at the top left corner",
        "cx=x+w/2",
    ),
    "pixels": Layout(
        rows(
            lambda b: joined(b[0], ((b[1] + b[3]) / 2, (b[2] + b[4]) / 2, b[3] - b[1], b[4] - b[2]))
        ),
        "in pixels",
        "divide by",
    ),
    "pixel-corners": Layout(
        rows(lambda b: joined(b[0], (b[1] + 400, b[2] + 300, b[3] + 400, b[4] + 300))),
        "x1 y1 x2 y2 in pixels",
        "divide by",
    ),
    "percent": Layout(
        rows(lambda b: joined(b[0], tuple(100 * v for v in shares(b)))),
        "in percent",
        "divide by 100",
    ),
    "commas": Layout(
        rows(lambda b: joined(b[0], shares(b), ",")),
        "columns are separated by commas",
        "expected spaces",
    ),
    "semicolons": Layout(
        rows(lambda b: joined(b[0], shares(b), ";")),
        "columns are separated by semicolons",
        "expected spaces",
    ),
    "decimal-commas": Layout(
        rows(lambda b: yolo(b).replace(".", ",")), "decimal comma", "expected spaces"
    ),
    "class-last": Layout(
        rows(lambda b: " ".join((*yolo(b).split()[1:], str(b[0])))),
        "class is the last column",
        "expected class cx cy w h",
    ),
    "no-class": Layout(
        rows(lambda b: yolo(b).partition(" ")[2]), "rows have no class", "put 0 in front"
    ),
    "utf-16": Layout(rows(yolo, encoding="utf-16"), "UTF-16", "save it as UTF-8"),
    "no-space": Layout(
        described(YAML.replace("train: ", "train:")),
        "no space after the colon",
        "write 'train: images/train'",
    ),
    "yaml-tab": Layout(described(YAML.replace("train:", "\ttrain:")), "tab", "spaces"),
    "copied-path": Layout(
        described("path: C:\\Users\\me\\cells\n" + YAML.replace("images/", "pics/")),
        "path: 'C:\\\\Users\\\\me\\\\cells' is a folder of another machine",
        "remove the line path:",
    ),
    "options-file": Layout(_is_options, "file of options, not a data set", "cfg="),
    "train-is-labels": Layout(
        described(YAML.replace("images/", "labels/")),
        "holds labels, not images",
        "name the folder of the images",
    ),
    "heic": Layout(_heic, "end in .heic", "convert"),
    "no-labels": Layout(_no_labels, "images and no labels", "label them first"),
    "no-names": Layout(_no_names, "without class names", "data.yaml"),
    "archive": Layout(_archive, "is an archive", "unpack it"),
    "no-val": Layout(
        described(YAML.replace("val: images/val\n", "")), "no images to validate on", "val=0.2"
    ),
}
