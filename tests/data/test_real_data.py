"""Data sets of photographs, where they are at hand: found, read whole, and without an error."""

from __future__ import annotations

import numpy as np
import pytest
from made_data import DATA, needs_real_data
from yolodet.datasets import boxes as algebra
from yolodet.datasets.formats.yolo import read_labels
from yolodet.datasets.scan.doctor import check_dataset
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets import locate
from yolodet.datasets.sets.locate import load_dataset

pytestmark = needs_real_data


def test_data_sets_are_found_by_name_and_not_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("there is nothing to download")

    monkeypatch.setattr(locate, "download_file", no_network)
    monkeypatch.setenv("DET_DATASETS", str(DATA))
    assert load_dataset("coco8").splits["train"] == [DATA / "coco8/images/train"]
    bccd = load_dataset(DATA / "bccd")
    assert (bccd.name, bccd.class_names) == ("bccd", ("RBC", "WBC", "Platelets"))
    assert list(bccd.splits) == ["train", "val", "test"]


def test_all_images_and_boxes_are_read_and_nothing_is_found_wrong() -> None:
    bccd, coco8 = (load_dataset(DATA / name) for name in ("bccd/bccd.yaml", "coco8/coco8.yaml"))
    report = check_dataset(bccd)
    assert report.count("error") == 0
    assert {split: counts.usable for split, counts in report.splits.items()} == {
        "train": 205, "val": 87, "test": 72,
    }  # fmt: skip
    assert report.splits["train"].per_class == {"RBC": 2381, "WBC": 214, "Platelets": 209}
    assert [group.id for group in check_dataset(coco8).groups] == ["class-without-box"]
    assert {record.size for record in scan_split(bccd, "train").records} == {(480, 640)}
    files = sorted((DATA / "bccd/labels/train").glob("*.txt"))
    assert len(files) == 205
    for file in files[:40]:
        expected = np.loadtxt(file, ndmin=2)
        boxes, labels, _ = read_labels(file, size=(480, 640), num_classes=3)[:3]
        assert labels.tolist() == expected[:, 0].tolist()
        shares = algebra.xyxy_to_xywhn(boxes, (480, 640))
        np.testing.assert_allclose(shares, expected[:, 1:], atol=3e-6)
