"""Pascal VOC: where XML and image are looked for, what an object gives, and every flaw."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_data import add_image, describe
from rows import each
from yolodet.datasets.scan.scan import Scan, scan_split
from yolodet.datasets.sets.dataset import DatasetError
from yolodet.datasets.sets.locate import load_dataset

pytestmark = pytest.mark.usefixtures("place")
SIZE = (48, 64)
BOX = "<bndbox><xmin>4</xmin><ymin>5</ymin><xmax>24.5</xmax><ymax>30</ymax></bndbox>"
CAT = f"<object><name>cat</name>{BOX}</object>"
YAML = "format: voc\ntrain: JPEGImages\n"


def xml(objects: str = CAT, size: str = "<width>64</width><height>48</height>") -> str:
    return f"<annotation><size>{size}</size>{objects}</annotation>"


def box(xmin: object, ymin: object, xmax: object, ymax: object) -> str:
    corners = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
    inside = "".join(f"<{key}>{value}</{key}>" for key, value in corners.items())
    return f"<bndbox>{inside}</bndbox>"


def scanned(root: Path, content: str | bytes) -> Scan:
    """The scan of one image with this XML, beside one that is sound."""
    for name in ("a", "sound"):
        add_image(root / f"JPEGImages/{name}.jpg", SIZE, None)
    (root / "Annotations").mkdir(exist_ok=True)
    (root / "Annotations/sound.xml").write_text(xml())
    data = content if isinstance(content, bytes) else content.encode()
    (root / "Annotations/a.xml").write_bytes(data)
    return scan_split(load_dataset(describe(root, YAML)), "train")


@each(
    ("image", "file", "found"),
    [
        ("JPEGImages/a.jpg", "JPEGImages/a.xml", True),
        ("JPEGImages/a.jpg", "Annotations/a.xml", True),
        ("JPEGImages/b/a.jpg", "Annotations/b/a.xml", True),
        ("images/a.jpg", "annotations/a.xml", True),
        ("pictures/a.jpg", "Annotations/a.xml", False),
    ],
)
def test_where_the_xml_of_an_image_is(place: Path, image: str, file: str, found: bool) -> None:
    add_image(place / "set" / image, SIZE, None)
    (place / "set" / file).parent.mkdir(parents=True, exist_ok=True)
    (place / "set" / file).write_text(xml())
    text = f"format: voc\nval: {image.partition('/')[0]}\nnames: [cat]\n"
    scan = scan_split(load_dataset(describe(place / "set", text)), "val", strict=False)
    assert [len(record.labels) for record in scan.records] == [int(found)]
    assert len(scan.unlabeled) == int(not found)
    wrong = {"wrong-folder", "split-without-box"}
    assert {f.id for f in scan.findings} == (set() if found else wrong)


def test_an_object_its_parts_and_its_class(place: Path) -> None:
    part = f"<part><name>head</name>{BOX}</part>"
    dog = f"<object><name>dog</name>{box(0, 0, 64, 48)}{part}<difficult>1</difficult></object>"
    scan = scanned(place / "set", xml(CAT + dog))
    record = scan.records[0]
    assert record.boxes.tolist() == [[4, 5, 24.5, 30], [0, 0, 64, 48]]  # as they are written
    assert record.labels.tolist() == [0, 1]
    assert [(f.id, f.path.name, f.message) for f in scan.findings] == [
        ("label-difficult", "a.xml", "object[1]: difficult; used")
    ]


BAD = [
    (f"<object>{BOX}</object>", "class-name"),
    (f"<object><name> </name>{BOX}</object>", "class-name"),
    ("<object><name>cat</name></object>", "label-columns"),
    (f"<object><name>cat</name>{BOX}{BOX}</object>", "label-columns"),
    (f"<object><name>cat</name>{box('x', 1, 5, 5)}</object>", "label-number"),
    (f"<object><name>cat</name>{box('1,5', 1, 5, 5)}</object>", "label-number"),
    (f"<object><name>cat</name>{box('', 1, 5, 5)}</object>", "label-number"),
    (f"<object><name>cat</name>{box('nan', 1, 5, 5)}</object>", "label-not-finite"),
    (f"<object><name>cat</name>{box(5, 1, 5, 5)}</object>", "label-zero-area"),
    (f"<object><name>cat</name>{box(70, 1, 80, 5)}</object>", "label-outside"),
]


@each(("bad", "id"), BAD)
def test_a_bad_object_is_dropped_alone(place: Path, bad: str, id: str) -> None:
    scan = scanned(place / "set", xml(CAT + bad))
    assert [len(record.labels) for record in scan.records] == [1, 1]
    assert [(f.id, f.severity, f.message[:9]) for f in scan.findings] == [
        (id, "error", "object[1]")
    ]


@each(
    ("objects", "id", "corners"),
    [
        (f"<object><name>cat</name>{box(24, 30, 4, 5)}</object>", "box-reversed", [4, 5, 24, 30]),
        (f"<object><name>cat</name>{box(-9, 5, 24, 30)}</object>", "label-clipped", [0, 5, 24, 30]),
        (CAT + CAT, "label-duplicate", [4, 5, 24.5, 30]),
        (f"<filename>b.png</filename>{CAT}", "image-name", [4, 5, 24.5, 30]),
    ],
)
def test_what_is_corrected_is_used_with_a_warning(
    place: Path, objects: str, id: str, corners: list[float]
) -> None:
    scan = scanned(place / "set", xml(objects))
    assert scan.records[0].boxes.tolist() == [corners]
    assert [(f.id, f.severity) for f in scan.findings] == [(id, "warning")]


ENTITY = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
UNUSABLE = [
    (xml()[:60], "xml-broken"),
    ("", "xml-broken"),
    (b"\xff\xfe\x00", "xml-broken"),
    ("<html></html>", "xml-other"),
    (ENTITY + xml().replace("cat", "&x;"), "xml-entity"),
    ((ENTITY + xml()).encode("utf-16"), "xml-entity"),
    ("<!DOCTYPE annotation>" + xml(), "xml-entity"),
    (xml(size="<width>48</width><height>64</height>"), "size-differs"),
    (xml(size="<width>x</width><height>y</height>"), "size-differs"),
]


@each(("content", "id"), UNUSABLE)
def test_an_image_whose_xml_cannot_be_used_is_left_out(
    place: Path, content: str | bytes, id: str
) -> None:
    scan = scanned(place / "set", content)
    assert [record.path.name for record in scan.records] == ["sound.jpg"]
    assert [f.id for f in scan.findings] == [id, "image-left-out"][: 1 + id.startswith("xml")]


def test_other_encodings_and_sizes_that_are_not_recorded(place: Path) -> None:
    text = '<?xml version="1.0" encoding="windows-1252"?>' + xml().replace("cat", "Grün")
    scan = scanned(place / "set", text.encode("cp1252"))
    assert load_dataset(place / "set").class_names == ("Grün", "cat")
    assert scan.findings == []
    scan = scanned(place / "set", xml(size="<width>0</width>"))
    assert [(f.id, f.severity) for f in scan.findings] == [("size-unknown", "info")]


def test_lists_and_a_labelmap(place: Path) -> None:
    root = place / "set"
    scanned(root, xml())
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("a  1\nsound.jpg\ngone -1\n\n")
    (root / "labelmap.txt").write_text("# label:color\nbackground:0,0,0::\ndog:1,2,3::\ncat:::\n")
    dataset = load_dataset(describe(root, "format: voc\ntrain: ImageSets/Main/train.txt\n"))
    assert dataset.class_names == ("dog", "cat")
    scan = scan_split(dataset, "train")
    assert [record.labels.tolist() for record in scan.records] == [[1], [1]]
    assert [(f.id, f.line) for f in scan.findings] == [("image-missing", 3)]


def test_a_data_set_without_a_name_is_refused(place: Path) -> None:
    add_image(place / "set/JPEGImages/a.jpg", SIZE, None)
    with pytest.raises(DatasetError, match="no class name in any XML"):
        load_dataset(describe(place / "set", YAML))
