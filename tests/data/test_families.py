"""``data=FOLDER``: found by content for every family, in dialects that its tools write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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
BOX = (10, 5, 40, 30)
"""The box of every image, x1 y1 x2 y2, in 64 x 48 pixels.  Its class is cat."""
KITTI = "cat 0.00 0 1.85 10 5 40 30 1.5 1.6 3.7 -1.7 2.3 13.2 1.8\n"
DOTA = "10 5 40 5 40 30 10 30 cat"
CVAT_BOX = 'xtl="10" ytl="5" xbr="40" ybr="30"'
CVAT_LABELS = "<meta><task><labels><label><name>cat</name></label></labels></task></meta>"


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def images(root: Path, *names: str) -> None:
    for name in names:
        add_image(root / name, (48, 64), None)


def labelme(image: str, **more: Any) -> dict[str, Any]:
    shape = {"label": "cat", "points": [[40, 30], [10, 5]], "shape_type": "rectangle"}
    size = {"imagePath": image, "imageHeight": 48, "imageWidth": 64}
    return {"shapes": [shape], **size, **more}


def _labelme_splits(root: Path) -> None:
    for split in ("train", "val"):
        images(root, f"{split}/a.jpg")
        write(root / split / "a.json", labelme("a.jpg"))


def _labelme_apart(root: Path) -> None:
    images(root, "pictures/a.jpg")
    write(root / "json/a.json", labelme("..\\pictures\\a.jpg"))


def _labelme_with_the_picture(root: Path) -> None:
    images(root, "a.jpg")
    write(root / "a.json", {"imageData": "x" * 5_000_000, **labelme("a.jpg")})


def _label_studio(root: Path) -> None:
    images(root, "images/0a1b-a.jpg")
    shape = {"x": 100 * 10 / 64, "y": 100 * 5 / 48, "width": 100 * 30 / 64, "height": 100 * 25 / 48}
    shape |= {"rotation": 0, "rectanglelabels": ["cat"]}
    sizes = {"original_width": 64, "original_height": 48}
    task = {"id": 1, "image": "/data/upload/1/0a1b-a.jpg", "label": [{**shape, **sizes}]}
    write(root / "min.json", [{**task, "annotator": 1, "annotation_id": 1, "lead_time": 2.0}])


def _via(attributes: dict[str, Any], version: int = 2) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        images(root, "a.jpg")
        shape = {"name": "rect", "x": 10, "y": 5, "width": 30, "height": 25}
        region = {"shape_attributes": shape, "region_attributes": attributes}
        regions = {"0": region} if version == 1 else [region]
        write(root / "via.json", {"a.jpg123": {"filename": "a.jpg", "regions": regions}})

    return make


def _via_csv(root: Path) -> None:
    images(root, "a.jpg")
    head = "filename,file_size,file_attributes,region_count,region_id,"
    shape = '"{""name"":""rect"",""x"":10,""y"":5,""width"":30,""height"":25}"'
    row = f'a.jpg,1,"{{}}",1,0,{shape},"{{""type"":""cat""}}"\n'
    write(root / "via.csv", f"{head}region_shape_attributes,region_attributes\n{row}")


def _createml(root: Path) -> None:
    place = {"x": 25, "y": 17.5, "width": 30, "height": 25}
    for split in ("train", "valid"):
        images(root, f"{split}/a.jpg")
        rows = [{"label": "cat", "coordinates": place}]
        write(root / split / "a.json", [{"imagefilename": "a.jpg", "annotation": rows}])
        text = (root / split / "a.json").read_text().replace('"annotation"', '"annotations"')
        (root / split / "a.json").write_text(text.replace("imagefilename", "image"))


def _cvat(root: Path) -> None:
    images(root, "images/Train/a.jpg", "images/Validation/a.jpg")
    rows = "".join(
        f'<image id="{n}" name="a.jpg" subset="{subset}" width="64" height="48">'
        f'<box label="cat" {CVAT_BOX}/></image>'
        for n, subset in enumerate(("Train", "Validation"))
    )
    write(root / "annotations.xml", f"<annotations>{CVAT_LABELS}{rows}</annotations>")


def _cvat_video(root: Path) -> None:
    images(root, "images/frame_000000.png", "images/frame_000007.png")
    boxes = "".join(
        f'<box frame="{frame}" outside="{int(frame == 8)}" keyframe="1" {CVAT_BOX}/>'
        for frame in (0, 7, 8)
    )
    track = f'<track id="0" label="cat">{boxes}</track>'
    size = "<original_size><width>64</width><height>48</height></original_size>"
    labels = CVAT_LABELS.replace("</task>", f"{size}</task>")
    write(root / "annotations.xml", f"<annotations>{labels}{track}</annotations>")


def _kitti(root: Path) -> None:
    images(root, "training/image_2/000001.png")
    write(root / "training/label_2/000001.txt", KITTI)


def _dota(text: str, labels: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for split in ("train", "val"):
            images(root, f"{split}/images/P1.png")
            write(root / split / labels / "P1.txt", text)

    return make


def _supervisely(root: Path) -> None:
    images(root, "ds0/img/a.png")
    points = {"exterior": [[10, 5], [39, 29]], "interior": []}
    row = {"classTitle": "cat", "geometryType": "rectangle", "points": points}
    write(root / "ds0/ann/a.json", {"size": {"height": 48, "width": 64}, "objects": [row]})
    write(root / "meta.json", {"classes": [{"title": "cat", "shape": "rectangle"}], "tags": []})


def _open_images(root: Path) -> None:
    images(root, "images/a.jpg")
    head = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded"
    shares = ",".join(f'"{n / d:.10f}"' for n, d in ((10, 64), (40, 64), (5, 48), (30, 48)))
    write(root / "boxes.csv", f"{head}\na.jpg,,cat,,{shares.replace('.', ',')},\n")


def _make_sense(root: Path) -> None:
    images(root, "a.jpg")
    head = "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height"
    write(root / "labels.csv", f"{head}\ncat,10,5,30,25,a.jpg,64,48\n")


def _hugging_face(root: Path) -> None:
    images(root, "train/a.jpg")
    objects = [{"bbox": [10, 5, 30, 25], "category": 0}]
    write(root / "train/metadata.jsonl", {"file_name": "a.jpg", "objects": objects})


def _darknet(root: Path) -> None:
    images(root, "obj_train_data/a.jpg", "obj_valid_data/a.jpg")
    row = f"0 {25 / 64} {17.5 / 48} {30 / 64} {25 / 48}\n"
    for split in ("train", "valid"):
        write(root / f"obj_{split}_data/a.txt", row)
        write(root / f"{split}.txt", f"data/obj_{split}_data/a.jpg\n")
    write(root / "my.names", "cat\n")
    lists = "train = data/train.txt\nvalid = data/valid.txt\nnames = data/my.names\n"
    write(root / "obj.data", f"classes = 1\n{lists}backup = backup/\n")


def _yolo_without_names(root: Path) -> None:
    images(root, "images/a.jpg")
    write(root / "labels/a.txt", f"0 {25 / 64} {17.5 / 48} {30 / 64} {25 / 48}\n")


FAMILIES: dict[str, tuple[Callable[[Path], None], dict[str, int], dict[str, Any]]] = {
    "labelme, splits": (_labelme_splits, {"train": 1, "val": 1}, {}),
    "labelme, apart": (_labelme_apart, {"train": 1}, {}),
    "labelme, with the picture": (_labelme_with_the_picture, {"train": 1}, {}),
    "Label Studio, JSON-MIN": (_label_studio, {"train": 1}, {}),
    "VIA 1": (_via({"name": "cat"}, 1), {"train": 1}, {}),
    "VIA, checkbox": (_via({"animal": {"cat": True, "dog": False}}), {"train": 1}, {}),
    "VIA, no attribute": (_via({}), {"train": 1}, {"names": "object->cat"}),
    "VIA, CSV": (_via_csv, {"train": 1}, {}),
    "CreateML": (_createml, {"train": 1, "val": 1}, {}),
    "CVAT": (_cvat, {"train": 1, "val": 1}, {}),
    "CVAT, video": (_cvat_video, {"train": 2}, {}),
    "KITTI": (_kitti, {"train": 1}, {}),
    "DOTA": (_dota(f"imagesource:x\ngsd:0.1\n{DOTA} 0\n", "labelTxt"), {"train": 1, "val": 1}, {}),
    "DOTA, versions": (_dota(f"{DOTA}\n", "labelTxt-v1.5"), {"train": 1, "val": 1}, {}),
    "Supervisely, old": (_supervisely, {"train": 1}, {}),
    "Open Images, comma": (_open_images, {"train": 1}, {}),
    "makesense, CSV": (_make_sense, {"train": 1}, {}),
    "Hugging Face": (_hugging_face, {"train": 1}, {"names": "cat"}),
    "darknet": (_darknet, {"train": 1, "val": 1}, {}),
    "YOLO, no names": (_yolo_without_names, {"train": 1}, {"names": "cat"}),
}


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
    _labelme_splits(tmp_path / "set")
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
    [(_labelme_splits, _kitti, ("labelme JSON (train/a.json)", "KITTI text (training/")),
     (_cvat, _open_images, ("CVAT XML (annotations.xml)", "CSV table of boxes (boxes.csv)")),
     (_via({"name": "cat"}), _supervisely, ("VIA JSON or CSV (via.json)", "Supervisely JSON (ds"))],
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
    _via({"name": "cat"})(tmp_path)
    _via_csv(tmp_path)
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
    _label_studio(tmp_path)
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
    _yolo_without_names(tmp_path)
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
