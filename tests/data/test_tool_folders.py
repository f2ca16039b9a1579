"""``data=FOLDER``: found by content for every family, in dialects that its tools write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from families import (
    BOX,
    DOTA,
    FAMILIES,
    cvat,
    images,
    kitti,
    label_studio,
    labelme_splits,
    open_images,
    supervisely,
    via,
    via_csv,
    write,
    yolo_without_names,
)
from label_files import coco
from made_data import add_image
from rows import each
from said_specimens import det
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.dataset import DatasetError
from yolodet.datasets.sets.locate import load_dataset
from yolodet.datasets.sets.source import DataSource
from yolodet.detector.run.check import check_data

pytestmark = pytest.mark.usefixtures("place")
@each("name", list(FAMILIES))
def test_a_folder_is_read_by_its_content(tmp_path: Path, name: str) -> None:
    make, splits, options = FAMILIES[name]
    make(tmp_path)
    dataset = load_dataset(DataSource(str(tmp_path), **options))
    scans = {split: scan_split(dataset, split) for split in dataset.splits}
    assert {split: len(scan.records) for split, scan in scans.items()} == splits
    assert dataset.class_names == ("cat",)
    for scan in scans.values():
        assert not [found for found in scan.findings if found.id != "class-none"]
        for record in scan.records:
            np.testing.assert_allclose(record.boxes, [BOX], atol=0.01)


def test_check_convert_stats_show_and_train_take_such_a_folder(tmp_path: Path) -> None:
    labelme_splits(tmp_path / "set")
    data = f"data={tmp_path / 'set'}"
    check = det("data", "check", data)
    assert {split: told["boxes"] for split, told in check.result["splits"].items()} == {
        "train": 1, "val": 1,
    }  # fmt: skip
    assert det("data", "convert", data, f"out={tmp_path / 'new'}").code == 0
    assert det("data", "stats", data, f"out={tmp_path / 'stats.png'}").code == 0
    assert det("data", "show", data, f"out={tmp_path / 'shown'}").code == 0
    label = (tmp_path / "new/labels/val/a.txt").read_text().split()
    assert np.allclose([float(word) for word in label], [0, 25 / 64, 17.5 / 48, 30 / 64, 25 / 48])
    check_data(str(tmp_path / "set"))  # what det train asks before it loads torch


@each(
    ("one", "other", "words"),
    [(labelme_splits, kitti, ("labelme JSON (train/a.json)", "KITTI text (training/")),
     (cvat, open_images, ("CVAT XML (annotations.xml)", "CSV table of boxes (boxes.csv)")),
     (via({"name": "cat"}), supervisely, ("VIA JSON or CSV (via.json)", "Supervisely JSON (ds"))],
)  # fmt: skip
def test_two_families_are_an_error_that_lists_both(
    tmp_path: Path, one: Callable[[Path], None], other: Callable[[Path], None], words: list[str]
) -> None:
    one(tmp_path)
    other(tmp_path)
    with pytest.raises(DatasetError) as caught:
        load_dataset(tmp_path)
    assert all(word in str(caught.value) for word in (*words, "which is it?"))


def test_two_files_of_one_family_are_listed_too(tmp_path: Path) -> None:
    via({"name": "cat"})(tmp_path)
    via_csv(tmp_path)
    with pytest.raises(DatasetError, match=r"do not say train or val: via\.csv, via\.json"):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path / "via.csv").class_names == ("cat",)


def test_an_image_with_two_label_files_is_refused(tmp_path: Path) -> None:
    images(tmp_path, "images/P1.png")
    for labels in ("labelTxt-v1.0", "labelTxt-v1.5"):
        write(tmp_path / labels / "P1.txt", f"{DOTA} 0\n")
    with pytest.raises(DatasetError, match=r"annotates .*P1\.png too"):
        load_dataset(tmp_path)


def test_uploads_of_one_name_are_two_images(tmp_path: Path) -> None:
    label_studio(tmp_path)
    (task,) = json.loads((tmp_path / "min.json").read_text())
    tasks = [{**task, "id": n, "image": f"s3://bucket/{n}/a.jpg"} for n in (1, 2)]
    write(tmp_path / "min.json", tasks)
    images(tmp_path, "1/a.jpg", "2/a.jpg")
    scan = scan_split(load_dataset(tmp_path), "train")
    assert [len(record.boxes) for record in scan.records] == [1, 1]


@each(
    ("name", "content", "what"),
    [("a.tfrecord", b"\x01\0\0", "a TFRecord"), ("a.parquet", b"PAR1\0", "a Parquet table"),
     ("a.json", b'[{"name": "a.jpg", "labels": []}]', "BDD100K"),
     ("a.ndjson", b'{"data_row": {}}\n{"data_row": {}}\n', "Labelbox NDJSON"),
     ("a.manifest", b'{"source-ref": "s3://a"}\n{"source-ref": "s3://b"}\n', "SageMaker"),
     ("a.xml", b"<dataset><images/></dataset>", "XML of dlib"),
     ("a.csv", b"TRAIN,gs://b/a.jpg,cat,0.1,0.1,,,0.5,0.5,,\n", "Vertex AI")],
)  # fmt: skip
def test_what_is_not_read_is_named_with_the_way_out(
    tmp_path: Path, name: str, content: bytes, what: str
) -> None:
    (tmp_path / name).write_bytes(content)
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(DatasetError) as caught:
            load_dataset(place)
        assert what in str(caught.value) and "export COCO JSON" in str(caught.value)


def test_a_yaml_that_names_no_split(tmp_path: Path) -> None:
    yolo_without_names(tmp_path)
    write(tmp_path / "data.yaml", "nc: 1\nnames: [cat]\n")
    heard: list[str] = []
    dataset = load_dataset(tmp_path, on_message=heard.append)
    assert dataset.splits == {"train": [tmp_path / "images"]}
    assert "names no train and no val" in heard[0]


def test_the_folder_of_the_images_or_what_becomes_of_them(tmp_path: Path) -> None:
    add_image(tmp_path / "pics/a.jpg", (60, 80), None)
    write(tmp_path / "labels/x.json", coco({tmp_path / "pics/a.jpg": [(0, *BOX)]}))
    data, pics = f"data={tmp_path / 'labels/x.json'}", tmp_path / "pics"

    def told(name: str, *words: str) -> str:
        return det("data", "convert", data, f"out={tmp_path / name}", *words).line.splitlines()[0]

    assert "was not found" in told("a")
    for words in (("b", f"images={pics}"), ("c", f"images_dir={pics}", "images=copy")):
        assert told(*words).startswith("null")
    linked = [(tmp_path / name / "images/train/a.jpg").stat().st_nlink for name in ("b", "c")]
    assert linked == [2, 1]
    assert "did you mean 'copy'?" in told("d", "images=cpoy")
    assert "two folders" in told("d", f"images={pics}", f"images_dir={pics}")
    assert not (tmp_path / "d").exists()
