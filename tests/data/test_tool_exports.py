"""Data sets as annotation tools write them: what is found, corrected, left out, and reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_data import ROW, add_image, describe
from rows import each
from specimens import FORMATS, needs_specimens, read_specimen
from yolodet.datasets.scan.doctor import check_dataset
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset

pytestmark = pytest.mark.usefixtures("place")


def findings(data: Path) -> dict[str, int]:
    report = check_dataset(load_dataset(data))
    return {group.id: group.count for group in report.groups}


@pytest.fixture
def root(place: Path) -> Path:
    """Two images to train on and one to validate on, of two classes."""
    for name in ("train/1", "train/2", "val/3"):
        add_image(place / f"set/images/{name}.jpg", row=ROW + "0 0.5 0.5 0.25 0.25\n")
    return place / "set"


@each(
    ("content", "ids"),
    [
        (ROW.encode("utf-16"), {"label-encoding"}),
        (b"3 32 24 16 24\n", {"label-class-range"}),
        (b"0 32 24 16 24\nx\n", {"label-coordinates", "label-columns"}),
    ],
)
@each("warm", [False, True])
def test_an_image_whose_labels_cannot_be_used_is_left_out_and_no_background(
    root: Path, content: bytes, ids: set[str], warm: bool
) -> None:
    (root / "labels/train/2.txt").write_bytes(content)
    dataset = load_dataset(describe(root))
    for _ in range(1 + warm):  # the second time from the cache
        scan = scan_split(dataset, "train")
    assert [record.path.name for record in scan.records] == ["1.jpg"]
    assert {found.id for found in scan.findings} == {*ids, "image-left-out"}
    told = check_dataset(dataset).splits["train"]
    assert (told.images, told.usable, told.backgrounds) == (2, 1, 0)


def test_an_image_with_one_good_row_or_an_empty_file_stays(root: Path) -> None:
    (root / "labels/train/1.txt").write_text(ROW + "x\n")
    (root / "labels/train/2.txt").write_text("\n")
    assert len(scan_split(load_dataset(describe(root)), "train").records) == 2


def test_a_pose_data_set_gives_its_boxes(root: Path) -> None:
    row = "0 0.5 0.5 0.25 0.5 0.1 0.2 0.3 0.4 0.5 0.6"  # as a polygon: another box
    (root / "labels/train/1.txt").write_text(row)
    (root / "labels/train/2.txt").write_text(f"{row} 0.7 0.8")
    text = "train: images/train\nval: images/val\nnames: [a, b]\nkpt_shape: [3, 2]\n"
    scan = scan_split(load_dataset(describe(root, text)), "train")
    assert [record.boxes.tolist() for record in scan.records] == [[[15, 5, 25, 15]]]
    assert {found.id: found.severity for found in scan.findings} == {
        "label-keypoints": "info", "label-columns": "error", "image-left-out": "error",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("train", "lines"),
    [
        ("[images/train/1.jpg, images/train/2.jpg]", None),
        ("train.txt", ["data/images/train/1.jpg", "data/images/train/2.jpg"]),
        ("train.txt", ["images\\train\\1.jpg", "data\\images\\train\\2.jpg"]),
    ],
    ids=["list of images", "data/", "backslashes"],
)
def test_ways_to_name_images(root: Path, train: str, lines: list[str] | None) -> None:
    if lines:
        (root / "train.txt").write_text("\n".join(lines))
    file = describe(root, f"train: {train}\nval: images/val\nnames: [a, b]\n")
    scan = scan_split(load_dataset(file), "train")
    assert [record.path.name for record in scan.records] == ["1.jpg", "2.jpg"]
    assert [(f.id, f.severity, f.line) for f in scan.findings] == [
        ("image-path", "warning", number + 1) for number in range(len(lines or ()))
    ]


@each("path", ["/nowhere/on/this/machine/set", r"C:\data\set"])
@each("beside", ["set", "."])
def test_an_absolute_path_of_another_machine_is_looked_for_beside_the_yaml(
    root: Path, path: str, beside: str
) -> None:
    text = f"path: '{path}'\ntrain: images/train\nval: images/val\nnames: [a, b]\n"
    file = describe(root.parent if beside == "set" else root, text)
    heard: list[str] = []
    dataset = load_dataset(file, on_message=heard.append)
    assert dataset.root == root
    assert len(heard) == 1 and f"path: {path} does not hold the data set; {root} does" in heard[0]
    assert findings(file) == {"path-elsewhere": 1}


def test_a_data_set_without_val_is_reported(root: Path) -> None:
    assert findings(describe(root, "train: images/train\nnames: [a, b]")) == {"split-missing": 1}


@needs_specimens
def test_an_absolute_path_of_fiftyone_is_looked_for_beside_the_yaml() -> None:
    folder = FORMATS / "faults/fiftyone-absolute-path"
    places: list[Path] = []

    def named(expected: dict[str, Any]) -> Path:
        places.append(folder / expected["say"].removeprefix("data="))
        return places[0]

    read_specimen(folder, named)
    about_the_split = {"split-missing", "class-without-box", "box-tiny"}
    assert set(findings(places[0])) - about_the_split == {"path-elsewhere"}
