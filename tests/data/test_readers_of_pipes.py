"""A pipe in the place of any file of any label format is not waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from alarms import alarm
from made_data import add_image, describe
from rows import each
from yolodet.datasets.formats.reader import BUILT_IN
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset
from yolodet.files.errors import DetError

TABLE = "filename,xmin,ymin,xmax,ymax,class\nimages/a.png,1,1,9,9,cat\n"
FILES: dict[str, tuple[str, dict[str, str]]] = {
    **{name: ("a.json", {"a.json": ""}) for name in
       ("coco", "createml", "datumaro", "labelstudio", "via", "vott")},
    "yolo": ("list.txt", {"list.txt": "images/a.png\n", "labels/a.txt": ""}),
    "voc": ("images", {"annotations/a.xml": "", "labelmap.txt": "cat:::\n"}),
    "csv": ("a.csv", {"a.csv": TABLE, "classes.csv": "cat,0\n",
                      "class-descriptions.csv": "/m/1,cat\n"}),
    "cvat": ("a.xml", {"a.xml": ""}),
    "huggingface": ("a.jsonl", {"a.jsonl": ""}),
    "widerface": ("a.txt", {"a.txt": ""}),
    "dota": (".", {"labelTxt/a.txt": ""}),
    "kitti": (".", {"label_2/a.txt": ""}),
    "labelme": (".", {"images/a.json": ""}),
    "supervisely": (".", {"ann/a.png.json": "{}", "meta.json": "{}"}),
}  # fmt: skip
"""Format -> the split of its YAML, and the files that it reads, with what the others may hold."""


def test_every_format_is_in_the_table() -> None:
    assert set(FILES) == set(BUILT_IN)


@pytest.mark.usefixtures("place")
@each(
    ("format", "file", "names"),
    [
        (format, file, names)
        for format, (_, files) in FILES.items()
        for file in files
        for names in ("", "names: [cat]\n")
    ],
)
def test_a_pipe_is_no_label_file(place: Path, format: str, file: str, names: str) -> None:
    split, files = FILES[format]
    root = place / "set"
    add_image(root / "images/a.png", row=None)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(root / name) if name == file else (root / name).write_text(text)
    yaml = describe(root, f"format: {format}\ntrain: {split}\n{names}")
    with alarm():
        try:
            scan_split(load_dataset(yaml), "train")
        except DetError as error:
            assert "\n" not in str(error)


@pytest.mark.usefixtures("place")
def test_a_pipe_among_the_classes_of_a_folder_is_passed_over(place: Path) -> None:
    add_image(place / "set/images/a.png")
    os.mkfifo(place / "set/classes.txt")
    with alarm(), pytest.raises(DetError, match="without class names"):
        load_dataset(place / "set")
