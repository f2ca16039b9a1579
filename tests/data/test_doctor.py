"""The doctor: every illness put into a data set is found, and a healthy one is left in peace."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import made_data
import numpy as np
import pytest
from rows import each
from yolodet.datasets.scan import doctor
from yolodet.datasets.scan.doctor import Report, check_dataset, group_findings
from yolodet.datasets.sets.finding import Finding
from yolodet.datasets.sets.locate import Dataset
from yolodet.detector.commands.show import show_report

ROW = "0 0.5 0.5 0.5 0.5\n"


def add_image(root: Path, name: str, row: str | None = ROW) -> Path:
    return made_data.add_image(root / "images" / name, (40, 80), row)


@pytest.fixture
def healthy(tmp_path: Path) -> Dataset:
    root = tmp_path / "set"
    for name in ("train/a.png", "train/b.png", "val/a.png"):
        add_image(root, name, ROW + "1 .25 .25 .5 .5\n")
    splits = {split: [root / "images" / split] for split in ("train", "val")}
    return Dataset("tiny", ("cat", "dog"), splits, root, root / "tiny.yaml")


def ids(report: Report) -> dict[str, int]:
    return {group.id: group.count for group in report.groups}


def example(report: Report, id: str) -> str:
    return next(group.examples[0] for group in report.groups if group.id == id)


def test_healthy_data_set(healthy: Dataset) -> None:
    done: list[tuple[int, int]] = []
    report = check_dataset(healthy, on_progress=lambda *step: done.append(step))
    assert report.groups == ()
    assert done == [(2, 2), (1, 2), (2, 2), (1, 1), (1, 1)], "headers, then pixels"
    assert report.splits["train"].per_class == {"cat": 2, "dog": 2}
    train = report.splits["train"]
    assert (train.images, train.usable, train.boxes, train.backgrounds) == (2, 2, 4, 0)


def test_report_is_plain_json(healthy: Dataset) -> None:
    add_image(healthy.root, "train/c.png", ROW + "5 1 1 1 1\n")
    answer = json.loads(json.dumps(check_dataset(healthy).to_dict()))
    assert answer["counts"] == {"error": 1, "warning": 0, "info": 0}
    assert answer["class_names"] == ["cat", "dog"]
    assert answer["groups"] == [
        {
            "id": "label-class-range",
            "severity": "error",
            "count": 1,
            "examples": ["labels/train/c.txt:2: class 5 is unknown; the classes are 0..1"],
        }
    ]
    assert answer["splits"]["train"]["backgrounds"] == 0


def test_leak_between_splits_is_told_by_bytes_not_by_name(healthy: Dataset) -> None:
    original = healthy.root / "images/train/b.png"
    add_image(healthy.root, "val/other.png").write_bytes(original.read_bytes())
    report = check_dataset(healthy)
    assert ids(report) == {"image-leak": 1}
    told = f"images/val/other.png: in val, the same picture as {original} in train"
    assert example(report, "image-leak") == told


def test_copies_inside_a_split(healthy: Dataset) -> None:
    original = healthy.root / "images/train/a.png"
    for name in ("train/copy1.png", "train/copy2.png"):
        add_image(healthy.root, name).write_bytes(original.read_bytes())
    report = check_dataset(healthy)
    assert ids(report) == {"image-copy": 2}
    assert f"the same picture as {original}" in example(report, "image-copy")


def test_files_of_one_size_and_one_head_and_tail_are_not_the_same(healthy: Dataset) -> None:
    folder = healthy.root / "images/train"
    for number, name in enumerate(("x.bmp", "y.bmp")):
        add_image(healthy.root, f"train/{name}")
        image = np.zeros((80, 80, 3), np.uint8)
        image[40, 40] = number  # beyond the first and before the last 4 kB
        assert cv2.imwrite(str(folder / name), image)
    assert (folder / "x.bmp").stat().st_size == (folder / "y.bmp").stat().st_size
    assert check_dataset(healthy).groups == ()


def test_one_folder_for_two_splits_is_one_finding(healthy: Dataset) -> None:
    same = {"train": healthy.splits["train"], "val": healthy.splits["train"]}
    report = check_dataset(Dataset("x", healthy.class_names, same, healthy.root, healthy.yaml))
    assert ids(report) == {"split-same": 1}
    told = "train and val are the same: val measures what was trained on"
    assert example(report, "split-same") == f"images/train: {told}"


def test_classes_without_boxes_and_imbalance(healthy: Dataset) -> None:
    rows = [f"0 {x:.3f} {y:.3f} .1 .2\n" for x in np.linspace(0.1, 0.9, 20)
            for y in np.linspace(0.1, 0.9, 10)]  # fmt: skip
    add_image(healthy.root, "train/many.png", "".join(rows))
    names = ("cat", "dog", "bird", "cow")
    report = check_dataset(Dataset("x", names, healthy.splits, healthy.root, healthy.yaml))
    assert ids(report) == {"class-without-box": 2, "class-imbalance": 1}
    assert example(report, "class-without-box").endswith("class 2 (bird) has no box in train")
    assert "cat has 202 boxes in train, dog has 2" in example(report, "class-imbalance")
    assert report.count("info") == 1


def test_orphans_unlabeled_images_and_tiny_boxes(healthy: Dataset) -> None:
    labels = healthy.root / "labels/train"
    (labels / "gone.txt").write_text(ROW)
    (labels / "classes.txt").write_text("cat\ndog\n")
    add_image(healthy.root, "train/bare.png", None)
    add_image(healthy.root, "train/small.png", "0 .5 .5 .02 .5\n0 .5 .5 .03 .5\n")  # 1.6, 2.4 px
    broken = add_image(healthy.root, "train/broken.png")
    broken.write_bytes(b"")  # its label file is no orphan
    report = check_dataset(healthy)
    assert ids(report) == {
        "image-unreadable": 1, "label-orphan": 1, "box-tiny": 1, "image-unlabelled": 1,
    }  # fmt: skip
    assert [group.severity for group in report.groups] == ["error", "warning", "warning", "info"]
    assert example(report, "label-orphan").startswith("labels/train/gone.txt: no image of that na")
    assert "1.6 x 20.0 pixels" in example(report, "box-tiny")
    train = report.splits["train"]
    assert (train.images, train.usable, train.backgrounds, train.unlabeled) == (5, 4, 1, 1)


def test_empty_split_is_a_finding_and_the_others_are_examined(healthy: Dataset) -> None:
    for file in (healthy.root / "labels/train").iterdir():
        file.unlink()
    report = check_dataset(healthy)
    assert ids(report) == {"split-empty": 1}
    train = report.splits["train"]
    assert (train.images, train.usable, train.boxes) == (2, 2, 0)  # counted all the same
    assert "no usable box in 2 images" in example(report, "split-empty")


def test_groups_are_sorted_and_examples_few(tmp_path: Path) -> None:
    findings = [
        Finding(id, severity, tmp_path / f"{number}.txt", number, "told")
        for id, severity, count in (("i", "info", 9), ("w", "warning", 7), ("e", "error", 1),
                                    ("v", "warning", 8))
        for number in range(count)
    ]  # fmt: skip
    groups = group_findings(findings, tmp_path)
    assert [(g.id, g.count) for g in groups] == [("e", 1), ("v", 8), ("w", 7), ("i", 9)]
    assert groups[0].examples == ("0.txt: told",)
    assert groups[1].examples[-1] == "4.txt:4: told"
    assert len(groups[1].examples) == 5


def damage(path: Path) -> None:
    """In the middle of a PNG, whose ends stay."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20] = bytes(20)
    path.write_bytes(data)


@each(
    ("deep", "pixels", "decoded", "found"),
    [
        (None, 10**9, {"train", "val"}, 2),
        (None, 2 * 40 * 80, {"train"}, 1),
        (None, 40 * 80, {"val"}, 1),
        (False, 10**9, set(), 0),
        (True, 0, {"train", "val"}, 2),
    ],
)
def test_splits_are_decoded_up_to_a_number_of_pixels_and_the_report_says_which(
    healthy: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    deep: bool | None,
    pixels: int,
    decoded: set[str],
    found: int,
) -> None:
    for name in ("train/b.png", "val/a.png"):
        damage(add_image(healthy.root, name, ROW + "1 .25 .25 .5 .5\n"))
    monkeypatch.setattr(doctor, "DECODED_PIXELS", pixels)
    report = check_dataset(healthy, deep=deep)
    assert {name for name, split in report.splits.items() if split.decoded} == decoded
    assert ids(report).get("image-damaged", 0) == found
    unseen = [name for name in ("train", "val") if name not in decoded]
    line = f"of {', '.join(unseen)}; deep=True decodes them too"
    assert (line in show_report(report)) is bool(unseen)
