"""What annotation tools write, against the boxes, classes and findings that it holds."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_data import DATA, add_image, describe
from rows import each
from yolodet.cli import main
from yolodet.datasets.scan.scan import EmptyDatasetError, scan_split
from yolodet.datasets.sets.dataset import Dataset, DatasetError
from yolodet.datasets.sets.locate import load_dataset

pytestmark = pytest.mark.usefixtures("place")
SPECIMENS = (DATA.parent / "formats/specimens").resolve()
SAID = {
    "createml/01-datumaro": "createml, train: train/_annotations.createml.json, "
    "val: val/_annotations.createml.json",
    "csv/01-tf-object-detection": "csv, test: test_labels.csv",
    "csv/02-retinanet": "csv, train: annotations.csv",
    "csv/03-openimages": "csv, train: annotations/oidv6-train-annotations-bbox.csv, "
    "test: annotations/test-annotations-bbox.csv",
    "csv/05-vott": "csv, train: train-export.csv, val: test-export.csv",
    "csv/07-odd": "csv, train: semicolon.csv",
    "cvatxml/01-cvat-images": "cvat, train: annotations.xml",
    "cvatxml/02-datumaro": "cvat, train: annotations.xml, val: annotations.xml, "
    "test: annotations.xml",
    "datumaro/01": "datumaro, train: annotations/default.json, images: images/default",
    "dota/01": "dota, train: train, val: val",
    "huggingface/01-metadata-jsonl": "huggingface, train: train/metadata.jsonl, names: [cat, dog]",
    "labelme/01-labelme": "labelme, train: .",
    "labelstudio/01-json": "labelstudio, train: project-1-at-2026-01-02-03-04-05.json",
    "supervisely/01": "supervisely, train: .",
    "via/01-project-v2": "via, train: via_project.json",
    "widerface/01": "widerface, train: wider_face_split/wider_face_train_bbx_gt.txt, "
    "val: wider_face_split/wider_face_val_bbx_gt.txt",
}
"""Specimen -> the lines of its YAML after ``format:``."""

NAMED_OTHERWISE = ("image-path", "label-crowd", "csv-columns", "csv-no-class")
"""Findings that det has more or less often: a moved image, an ignored box, a refused table."""
TEXTS = (".json", ".jsonl", ".csv", ".xml", ".txt")
needs_specimens = pytest.mark.skipif(
    not SPECIMENS.is_dir(), reason=f"the files of tools are not in {SPECIMENS}"
)


def found(dataset: Dataset) -> tuple[dict[str, list[Any]], Counter[str]]:
    """Image -> (size, boxes, class names), and how often each finding occurs."""
    images: dict[str, list[Any]] = {}
    findings: Counter[str] = Counter()
    for split in dataset.splits:
        scan = scan_split(dataset, split)
        findings.update(finding.id for finding in scan.findings)
        for record in scan.records:
            plain = record.without_crowd()
            names = [dataset.class_names[label] for label in plain.labels]
            size = [record.size[1], record.size[0]]
            images[record.path.relative_to(dataset.root).as_posix()] = [size, plain.boxes, names]
    return images, findings


@needs_specimens
@each("name", list(SAID))
def test_what_tools_write_is_read_as_it_is_meant(place: Path, name: str) -> None:
    expected = json.loads((SPECIMENS / name / "expected.json").read_text())
    dataset = load_dataset(yaml_of(place, SPECIMENS / name / "files", SAID[name]))
    images, findings = found(dataset)
    assert sorted(dataset.class_names) == sorted(expected["class_names"])
    assert sorted(images) == sorted(image["file"] for image in expected["images"])
    for image in expected["images"]:
        size, boxes, names = images[image["file"]]
        assert size == image["size"] and names == image["labels"]
        np.testing.assert_allclose(boxes, np.reshape(image["boxes"], (-1, 4)), atol=0.01)
    wanted = Counter(expected["counts"]["findings"])
    for id in NAMED_OTHERWISE:
        wanted.pop(id, None), findings.pop(id, None)
    assert findings == wanted


def yaml_of(place: Path, files: Path, said: str) -> Path:
    """The YAML of a specimen whose files are in ``files``."""
    lines = f"format: {said}".replace("[cat, dog]", "[cat; dog]").split(", ")
    text = "\n".join([f"path: {files}", *lines, ""]).replace("[cat; dog]", "[cat, dog]")
    return describe(place, text)


def spoilt(data: bytes, random: np.random.Generator) -> bytes:
    """A file that was cut, has other bytes, or holds values of other types."""
    kind = random.integers(5)
    if kind == 0:
        return data[: random.integers(len(data))]
    if kind == 1:
        many = bytearray(data)
        for place in random.integers(len(data), size=5):
            many[place] = random.integers(256)
        return bytes(many)
    if kind == 2:
        return data.replace(b'"', b"", int(random.integers(1, 4)))
    other = random.choice([b"[]", b"{}", b"null", b'"x"', b"1e999", b"-1", b"[[[1]]]", b"true"])
    numbers = list(re.finditer(rb"(?<![\w.])[\d.]+(?![\w.])", data))
    for match in sorted(random.permutation(len(numbers))[:3], reverse=True):
        data = data[: numbers[match].start()] + other + data[numbers[match].end() :]
    return data


@needs_specimens
@each("name", list(SAID))
def test_spoilt_files_are_findings_or_one_line(place: Path, name: str) -> None:
    random = np.random.default_rng(list(name.encode()))
    for turn in range(10):
        files = place / f"files{turn}"
        shutil.copytree(SPECIMENS / name / "files", files)
        texts = [path for path in sorted(files.rglob("*")) if path.suffix in TEXTS]
        for path in texts:
            path.write_bytes(spoilt(path.read_bytes(), random))
        try:
            images, _ = found(load_dataset(yaml_of(place / f"{turn}", files, SAID[name])))
        except DatasetError as error:
            assert "\n" not in str(error)
        else:
            assert all(np.isfinite(boxes).all() for _, boxes, _ in images.values())


def test_columns_that_do_not_say_what_they_are_are_refused(place: Path) -> None:
    (place / "a.csv").write_text("image,x1,x2,x3,x4,label\na.jpg,10,5,30,25,cat\n")
    (place / "b.csv").write_text('image,bbox\na.jpg,"[10, 5, 30, 25]"\n')
    for table, said in (("a", "do not say what they are"), ("b", "holds a class")):
        with pytest.raises(DatasetError, match=said):
            load_dataset(yaml_of(place, place, f"csv, train: {table}.csv"))


def test_a_split_without_a_usable_box_says_why(place: Path) -> None:
    add_image(place / "set/a.jpg", (10, 5), None)
    box = {"left": 6, "top": 10.3, "width": 3.3, "height": 4.7}
    regions = [{"tags": ["cat"], "boundingBox": box}]
    asset = {"name": "a.jpg", "size": {"width": 5, "height": 10}}
    content = {"tags": [{"name": "cat"}], "assets": {"1": {"asset": asset, "regions": regions}}}
    (place / "set/train.json").write_text(json.dumps(content))
    with pytest.raises(EmptyDatasetError, match="the box lies outside the image"):
        found(load_dataset(yaml_of(place, place / "set", "vott, train: train.json")))


def test_a_file_that_is_no_text_is_refused_in_its_own_words(place: Path) -> None:
    for name in ("via", "csv", "coco"):
        table = place / f"a.{'csv' if name == 'csv' else 'json'}"
        table.write_bytes(b"\xff\xfe{")
        with pytest.raises(DatasetError, match=r"a\.\w+: is not UTF-8 text \(byte 0\)$"):
            load_dataset(yaml_of(place, place, f"{name}, train: {table.name}"))


def test_kitti(place: Path) -> None:
    add_image(place / "set/training/image_2/000001.png", (40, 60), None)
    labels = place / "set/training/label_2"
    labels.mkdir()
    (labels / "000001.txt").write_text(
        "Car 0.00 0 1.85 10.5 12.00 30.25 28.00 1.5 1.6 3.7 -1.7 2.3 13.2 1.8\n"
        "DontCare -1 -1 -10 1 1 5 5 -1 -1 -1 -1000 -1000 -1000 -10\n"
    )
    dataset = load_dataset(describe(place / "set", "format: kitti\ntrain: training\n"))
    images, findings = found(dataset)
    ((_, boxes, names),) = images.values()
    assert (boxes.tolist(), names) == ([[10.5, 12, 30.25, 28]], ["Car"]) and not findings


def test_every_tool_can_be_converted_from_the_command_line(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_image(place / "set/a.jpg", (48, 64), None)
    shapes = [{"label": "cat", "points": [[30, 40], [10, 5]], "shape_type": "rectangle"}]
    content = {"shapes": shapes, "imagePath": "a.jpg", "imageHeight": 48, "imageWidth": 64}
    (place / "set/a.json").write_text(json.dumps(content))
    file = describe(place / "set", "format: labelme\ntrain: .\n")
    assert main(["data", "convert", f"data={file}", f"out={place / 'new'}"]) == 0
    label = (place / "new/labels/train/a.txt").read_text()
    assert np.allclose(list(map(float, label.split())), [0, 20 / 64, 22.5 / 48, 20 / 64, 35 / 48])
    assert main(["data", "check", f"data={file.with_name('other.yaml')}"]) == 2
    describe(place / "set", "format: labelmy\ntrain: .\n", "other.yaml")
    assert main(["data", "check", f"data={file.with_name('other.yaml')}"]) == 2
    assert "did you mean labelme?" in capsys.readouterr().err
