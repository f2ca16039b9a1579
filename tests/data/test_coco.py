"""COCO JSON: classes, images and boxes as many tools write them, and flaws with their place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from made_data import DATA, add_image, describe
from rows import each
from yolodet.datasets.formats.coco_rows import read_row
from yolodet.datasets.formats.pixel_rows import cut
from yolodet.datasets.scan.scan import Scan, scan_split
from yolodet.datasets.sets.dataset import Dataset, DatasetError
from yolodet.datasets.sets.locate import load_dataset

pytestmark = pytest.mark.usefixtures("place")
SIZE = (48, 64)
YAML = "format: coco\ntrain: train.json\n"


def image(id: Any, name: str, **other: Any) -> dict[str, Any]:
    return {"id": id, "file_name": name, "width": 64, "height": 48, **other}


def row(image_id: Any, category_id: Any = 1, bbox: Any = (4, 4, 20, 20), **other: Any) -> dict:
    return {"id": 9, "image_id": image_id, "category_id": category_id, "bbox": bbox, **other}


def write(root: Path, images: list, rows: list, classes: dict[int, str] | None = None) -> Path:
    """A data set of one split, described."""
    categories = [
        {"id": id, "name": name} for id, name in (classes or {1: "cat", 7: "dog"}).items()
    ]
    root.mkdir(exist_ok=True)
    (root / "train.json").write_text(
        json.dumps({"images": images, "annotations": rows, "categories": categories})
    )
    return describe(root, YAML)


def scanned(file: Path) -> Scan:
    return scan_split(load_dataset(file), "train")


def ids(scan: Scan) -> list[str]:
    return [found.id for found in scan.findings]


def test_boxes_classes_crowds_and_areas(place: Path) -> None:
    for name in ("a", "b", "c"):
        add_image(place / f"set/{name}.jpg", SIZE, None)
    rows = [
        row(5, 7, [1.5, 2.25, 10, 20], area=50.5),
        row(5, 1, [30, 30, 10, 10], iscrowd=True),
        row(6, 7, [0, 0, 64, 48], area=0),
    ]
    images = [image(5, "b.jpg"), image(6, "a.jpg"), image(7, "c.jpg")]
    scan = scanned(write(place / "set", images, rows))
    a, b, c = scan.records
    assert b.boxes.tolist() == [[1.5, 2.25, 11.5, 22.25], [30, 30, 40, 40]]
    assert (a.labels.tolist(), b.labels.tolist(), c.labels.tolist()) == ([1], [1, 0], [])
    assert b.crowd is not None and b.crowd.tolist() == [False, True]
    assert b.area is not None and b.area.tolist() == [50.5, 100]
    assert a.area is not None and a.area.tolist() == [64 * 48]  # 0 is no area
    assert ids(scan) == ["label-crowd"]
    assert b.without_crowd().labels.tolist() == [1]


def splits(root: Path, train: dict[int, str], val: dict[int, str], **above: str) -> Dataset:
    for split, classes in (("train", train), ("val", val)):
        add_image(root / f"{split}.jpg", SIZE, None)
        categories = [
            {"id": id, "name": name, "supercategory": above.get(name, "none")}
            for id, name in classes.items()
        ]
        data = {"images": [image(1, f"{split}.jpg")], "annotations": [row(1, max(classes))]}
        (root / f"{split}.json").write_text(json.dumps({**data, "categories": categories}))
    return load_dataset(describe(root, f"{YAML}val: val.json\n"))


def test_classes_are_ordered_by_id_over_all_splits_and_a_grouping_class_is_left_out(
    place: Path,
) -> None:
    dataset = splits(place / "set", {0: "all", 9: "x", 2: "y"}, {4: "z"}, x="all", y="all")
    assert dataset.class_names == ("y", "z", "x")
    assert scan_split(dataset, "train").records[0].labels.tolist() == [2]
    assert scan_split(dataset, "val").records[0].labels.tolist() == [1]
    kept = splits(place / "other", {0: "all", 9: "x"}, {0: "all"}, x="all")  # it has a box in val
    assert kept.class_names == ("all", "x")


def test_names_choose_the_order_and_must_be_complete(place: Path) -> None:
    add_image(place / "set/a.jpg", SIZE, None)
    write(place / "set", [image(1, "a.jpg")], [row(1, 7)])
    text = f"{YAML}names: [dog, cat]\n"
    assert scanned(describe(place / "set", text)).records[0].labels.tolist() == [0]
    with pytest.raises(DatasetError, match=r"names: class 'dog' of .* did you mean 'dogs'\?"):
        scanned(describe(place / "set", f"{YAML}names: [dogs]\n"))


NAMES = [
    ("sub/a.jpg", None, "sub/a.jpg"),
    ("sub\\a.jpg", "image-path", "sub/a.jpg"),
    (r"C:\Users\someone\b.jpg", "image-path", "b.jpg"),
    ("/home/you/data/b.jpg", "image-path", "b.jpg"),
    ("https://example.org/b.jpg?x=1", "image-path", "b.jpg"),
    ("c%20d.jpg", "image-path", "c d.jpg"),
    ("B.JPG", "image-path", "b.jpg"),
    ("b.png", "image-path", "b.jpg"),
    ("../outside.jpg", "image-missing", None),
    ("twice.jpg", "image-missing", None),
    ("a\0b.jpg", "image-missing", None),
    ("", "image-missing", None),
]


@each(("name", "id", "found"), NAMES)
def test_what_a_file_name_may_mean(
    place: Path, name: str, id: str | None, found: str | None
) -> None:
    root = place / "set"
    for there in ("sub/a.jpg", "b.jpg", "c d.jpg", "x/twice.jpg", "y/twice.jpg", "../outside.jpg"):
        add_image(root / there, SIZE, None)
    add_image(root / "last.jpg", SIZE, None)
    scan = scanned(write(root, [image(1, name), image(2, "last.jpg")], [row(1), row(2)]))
    paths = [str(record.path.relative_to(root)) for record in scan.records]
    assert sorted(paths) == sorted(filter(None, ["last.jpg", found]))
    assert [word for word in ids(scan) if word != "image-name-from-url"] == ([id] if id else [])


BAD = [
    ({"bbox": [1, 2, 3]}, "label-columns"),
    ({"bbox": []}, "label-columns"),
    ({"bbox": {"x": 1}}, "label-columns"),
    ({"bbox": [1, "a", 3, 4]}, "label-number"),
    ({"bbox": [True, 1, 3, 4]}, "label-number"),
    ({"bbox": [1, 1, 3, [4]]}, "label-number"),
    ({"bbox": [1, 1, float("inf"), 4]}, "label-not-finite"),
    ({"bbox": [1, 1, 10**400, 4]}, "label-number"),
    ({"bbox": [1, 1, 0, 4]}, "label-zero-area"),
    ({"bbox": [1, 1, 4, -4]}, "label-zero-area"),
    ({"bbox": [1e308, 1, 1, 1]}, "label-zero-area"),
    ({"bbox": [64, 1, 10, 10]}, "label-outside"),
    ({"segmentation": [[1, 2, 3]], "bbox": None}, "label-columns"),
    ({"segmentation": {"counts": "abc"}, "bbox": None}, "label-columns"),
]


@each(("values", "id"), BAD)
def test_a_bad_row_is_dropped_with_its_place(values: dict[str, Any], id: str) -> None:
    box, notes = cut(read_row("annotations[3]", 0, {"iscrowd": 1, **values}), SIZE)
    assert box is None and id in [note[0] for note in notes if note[1] == "error"]


CORRECTED = [
    ({"bbox": ["4", 4, 20, "20"]}, "number-as-text", (4, 4, 24, 24)),
    ({"bbox": [-5, 5, 20, 20]}, "label-clipped", (0, 5, 15, 25)),
    ({"bbox": [4, 4, 20, 10], "attributes": {"rotation": 90}}, "box-rotated", (9, -1, 19, 19)),
    ({"bbox": None, "segmentation": [[1, 2, 5, 2, 5, 9], [7, 3, 8, 4, 9, 5]]}, "box-from-mask",
     (1, 2, 9, 9)),
    ({"segmentation": [1, 2, 5, 2, 5, 9]}, "box-from-mask", (1, 2, 5, 9)),
]  # fmt: skip


@each(("values", "id", "expected"), CORRECTED)
def test_a_row_that_can_be_read_is_used(
    values: dict[str, Any], id: str, expected: tuple[float, ...]
) -> None:
    box, notes = cut(read_row("annotations[3]", 0, values), SIZE)
    assert box == pytest.approx(tuple(max(number, 0) for number in expected))
    assert id in [note[0] for note in notes]


def test_rows_and_images_that_belong_to_nothing(place: Path) -> None:
    for name in ("a", "b", "c", "d"):
        add_image(place / f"set/{name}.jpg", SIZE, None)
    images = [image("1", "a.jpg"), image(2, "b.jpg"), image(2, "c.jpg"), image(None, "d.jpg"), 5]
    rows = [row(1), row(1), row("1", 7), row(77), row(1, 99), row(2), 3]
    scan = scanned(write(place / "set", images, rows))
    assert [record.path.name for record in scan.records] == ["a.jpg"]
    assert scan.records[0].labels.tolist() == [0, 1]
    assert sorted(ids(scan)) == [
        "annotation-image", "id-type", "id-type", "image-id", "image-id", "image-id-twice",
        "label-class-range", "label-columns", "label-duplicate",
    ]  # fmt: skip
    told = next(found for found in scan.findings if found.id == "label-class-range")
    assert told.path.name == "train.json" and told.message.startswith("annotations[4] (id 9): ")


@each(
    ("recorded", "id"),
    [((64, 48), None), ((0, None), "size-unknown"), ((128, 96), "size-differs"),
     ((48, 64), "size-differs"), (("x", "y"), "size-differs")],
)  # fmt: skip
def test_boxes_of_another_size_are_not_used(
    place: Path, recorded: tuple[Any, Any], id: str | None
) -> None:
    for name in ("a", "b"):
        add_image(place / f"set/{name}.jpg", SIZE, None)
    images = [image(1, "a.jpg", width=recorded[0], height=recorded[1]), image(2, "b.jpg")]
    scan = scanned(write(place / "set", images, [row(1), row(2)]))
    left_out = id == "size-differs"
    assert [record.path.name for record in scan.records] == ["a.jpg", "b.jpg"][left_out:]
    assert ids(scan) == [*filter(None, [id])]


WRONG_FILES = [
    (b"", "is not valid JSON"),
    (b'{"images": [', "is not valid JSON"),
    (b"[" * 100_000, "is not valid JSON"),
    ('{"images": []}'.encode("utf-16"), "is not UTF-8 text"),
    (b'{"images": [], "categories": []}', "expected a list under 'annotations'"),
    (b'{"images": {}, "annotations": [], "categories": []}', "expected a list under 'images'"),
    (b'[{"bbox": [1, 2, 3, 4]}]', "expected a list under 'images'"),
    (b'{"images": [], "annotations": [], "categories": []}', "there are no class names"),
    (b'{"images": [], "annotations": [], "categories": [{"id": "x"}]}', "categories[0]"),
    (b'{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"},'
     b' {"id": 1, "name": "b"}]}', "category id 1 has two names: 'a', 'b'"),
]  # fmt: skip


@each(("content", "message"), WRONG_FILES)
def test_a_file_that_is_no_coco_annotation_is_refused(
    place: Path, content: bytes, message: str
) -> None:
    (place / "set").mkdir()
    (place / "set/train.json").write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        load_dataset(describe(place / "set", YAML))
    assert message in str(caught.value) and str(caught.value).isprintable()


def test_nothing_is_read_again_until_the_json_or_an_image_changes(
    place: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        add_image(place / f"set/{name}.jpg", SIZE, None)
    images = [image(1, "a.jpg"), image(2, "b.jpg")]
    file = write(place / "set", images, [row(1, iscrowd=1), row(1, 7, area=3.5)])
    first = scanned(file)
    opened: list[str] = []
    loads = json.loads
    monkeypatch.setattr(
        json, "loads", lambda text, **how: opened.append(str(text)) or loads(text, **how)
    )
    again = scanned(file)
    assert reads == ["a.jpg", "b.jpg"] and not [text for text in opened if "file_name" in text]
    for old, new in zip(first.records, again.records, strict=True):
        assert old.boxes.tolist() == new.boxes.tolist()
        for kept, again_kept in ((old.area, new.area), (old.crowd, new.crowd)):
            np.testing.assert_array_equal(
                [] if kept is None else kept, [] if again_kept is None else again_kept
            )
    assert first.records[0].crowd is not None and first.records[0].area is not None
    write(place / "set", images, [row(1), row(2)])
    assert [len(record.labels) for record in scanned(file).records] == [1, 1]


@pytest.mark.skipif(not (DATA / "rbc").is_dir(), reason=f"needs the data set in {DATA / 'rbc'}")
def test_a_real_data_set_is_the_same_as_yolo_text(place: Path) -> None:
    files = {"train": "train", "val": "valid", "test": "test"}
    lines = [f"{split}: {folder}/_annotations.coco.json" for split, folder in files.items()]
    dataset = load_dataset(
        describe(place / "x", "\n".join(["format: coco", f"path: {DATA / 'rbc'}", *lines]))
    )
    assert dataset.class_names == ("rbc", "wbc")
    scans = {split: scan_split(dataset, split) for split in files}
    assert {split: len(scan.records) for split, scan in scans.items()} == {
        "train": 210, "val": 20, "test": 10,
    }  # fmt: skip
    root = place / "yolo"
    for record in scans["val"].records:
        add_image(root / "images/val" / record.path.name, (8, 8), None).unlink()
        (root / "images/val" / record.path.name).symlink_to(record.path)
        height, width = record.size
        text = root / "labels/val" / f"{record.path.stem}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        sides = record.boxes[:, 2:] - record.boxes[:, :2]
        shares = np.hstack((record.boxes[:, :2] + sides / 2, sides)) / ((width, height) * 2)
        rows = zip(record.labels.tolist(), shares.tolist(), strict=True)
        text.write_text("".join(f"{n} {' '.join(f'{x:.9f}' for x in box)}\n" for n, box in rows))
    splits = {"val": [root / "images/val"]}
    yolo = scan_split(replace(dataset, format="yolo", splits=splits, root=root, options={}), "val")
    for ours, theirs in zip(scans["val"].records, yolo.records, strict=True):
        assert ours.labels.tolist() == theirs.labels.tolist()
        np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1e-3)
    assert cv2.imread(str(yolo.records[0].path)) is not None
