"""Label files: what each kind of row becomes, and that the fast reader is the careful one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_data import data_set
from rows import each
from yolodet.datasets import boxes as algebra
from yolodet.datasets.formats import yolo
from yolodet.datasets.formats.reader import ABSENT, open_split
from yolodet.datasets.formats.yolo import read_labels
from yolodet.datasets.sets.dataset import DatasetError
from yolodet.datasets.sets.finding import Finding

SIZE = (100, 200)  # height, width
GOOD = "1 0.5 0.5 0.25 0.5"  # 75, 25 to 125, 75


def read(
    tmp_path: Path, content: str | bytes, **options: int
) -> tuple[np.ndarray, np.ndarray, Sequence[Finding]]:
    file = tmp_path / "a.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(file, size=SIZE, **{"num_classes": 3, **options})[:3]


BAD_ROWS = [
    ("1 0.5 0.5 0.25", "label-columns", "4 columns, expected 5 (class cx cy w h) or a class"),
    ("1", "label-columns", "1 column, expected 5"),
    ("1 .1 .1 .2 .2 .3 1.101", "label-coordinates", "y is 1.101, expected a share of the image"),
    ("1 .1 .1 .2 .2 .3 .3 .4", "label-columns", "8 columns, expected 5"),
    ("cat 0.5 0.5 0.25 0.5", "label-number", "'cat' is not a number"),
    ("1 0,5 0.5 0.25 0.5", "label-number", "'0,5' is not a number"),
    ("1 0.5 0.5 0.2_5 0.5", "label-number", "'0.2_5' is not a number"),
    ("1 0x1 0.5 0.25 0.5", "label-number", "'0x1' is not a number"),
    ("1 nan 0.5 0.25 0.5", "label-not-finite", "nan is not a finite number"),
    ("nan 0.5 0.5 0.25 0.5", "label-not-finite", "nan is not a finite number"),
    ("1 0.5 0.5 inf 0.5", "label-not-finite", "inf is not a finite number"),
    ("1 0.5 0.5 1e999 0.5", "label-not-finite", "1e999 is not a finite number"),
    ("1.5 0.5 0.5 0.25 0.5", "label-class-integer", "class 1.5 is not a whole number"),
    ("3 0.5 0.5 0.25 0.5", "label-class-range", "class 3 is unknown; the classes are 0..2"),
    ("-1 0.5 0.5 0.25 0.5", "label-class-range", "class -1 is unknown; the classes are 0..2"),
    ("1e30 0.5 0.5 0.25 0.5", "label-class-range", "class 1e+30 is unknown"),
    ("1 1.2 0.5 0.25 0.5", "label-coordinates", "cx is 1.2, expected a share of the image"),
    ("1 0.5 -0.1 0.25 0.5", "label-coordinates", "cy is -0.1, expected a share of the image"),
    ("1 320 240 64 48", "label-coordinates", "cx is 320, expected a share of the image"),
    ("1 0.5 0.5 0.25 1.002", "label-coordinates", "h is 1.002, expected a share of the image"),
    ("1 0.5 0.5 -0.25 0.5", "label-coordinates", "w is -0.25, expected a share of the image"),
    ("1 .1 .1 .2 .2 .3 1.3", "label-coordinates", "y is 1.3, expected a share of the image"),
    ("1 0.5 0.5 0 0.5", "label-zero-area", "width 0 and height 0.5: no area"),
    ("1 0.5 0.5 0.25 -0.0001", "label-zero-area", "width 0.25 and height -0.0001: no area"),
    ("1 0.5 0.5 1e-12 0.5", "label-zero-area", "the box has no area"),
    ("1 1.0005 0.5 0.0005 0.5", "label-zero-area", "the box has no area"),
    ("1 .1 .1 .1 .2 .1 .3", "label-zero-area", "the box has no area"),
    (b"1 0.5 0.5 0.25 \xff", "label-encoding", "'\\xff' is not UTF-8 text"),
]


@each(("row", "id", "message"), BAD_ROWS)
def test_bad_row_is_dropped_alone_with_its_line(
    tmp_path: Path, row: str | bytes, id: str, message: str
) -> None:
    bad = row if isinstance(row, bytes) else row.encode()
    boxes, labels, findings = read(tmp_path, GOOD.encode() + b"\n\n" + bad + b"\n2 .5 .5 1 1\n")
    assert labels.tolist() == [1, 2]
    assert boxes.tolist() == [[75, 25, 125, 75], [0, 0, 200, 100]]
    assert [(f.id, f.severity, f.line, f.path) for f in findings] == [
        (id, "error", 3, tmp_path / "a.txt")
    ]
    assert findings[0].message.startswith(message)


CORRECTED = [
    ("1 0.05 0.5 0.25 0.5", "label-clipped", [0, 25, 35, 75], "the box reaches over the border"),
    ("1 0.5 0.9 0.25 0.5", "label-clipped", [75, 65, 125, 100], "the box reaches over the border"),
    ("1 0.5 0.5 0.5 0.5 0.913", "label-extra-column", [50, 25, 150, 75], "a 6th column (0.913: a"),
    ("1 .1 -.0098 .2 .2 .3 .4 .1 .4", "label-clipped", [20, 0, 60, 40], "the box reaches over"),
    (GOOD, "label-duplicate", None, "the same as line 1; used once"),
    ("1.0 0.50 .5 0.250 0.5", "label-duplicate", None, "the same as line 1; used once"),
]


@each(("row", "id", "box", "message"), CORRECTED)
def test_corrected_row_is_used_with_a_warning(
    tmp_path: Path, row: str, id: str, box: list[float] | None, message: str
) -> None:
    boxes, labels, findings = read(tmp_path, f"{GOOD}\n{row}\n")
    expected = [[75, 25, 125, 75]] + ([box] if box else [])
    np.testing.assert_allclose(boxes, expected, atol=1e-4)
    assert len(labels) == len(expected)
    assert [(f.id, f.severity, f.line) for f in findings] == [(id, "warning", 2)]
    assert findings[0].message.startswith(message)


@each(
    "content",
    [
        b"\xef\xbb\xbf1 0.5 0.5 0.25 0.5\n",
        b"1 0.5 0.5 0.25 0.5\r\n",
        b"\n\n  1\t0.5  0.5 0.25 0.5  \n\n",
        b"1 0.5 0.5 0.25 0.5",
        b"1.0 5e-1 .5 +0.25 0.50",
        b"1 0.375 0.25 0.625 0.25 0.625 0.75 0.375 0.75",
        b"1 0.375 0.25 0.625 0.25 0.5 0.75",
    ],
)
def test_ways_to_write_the_same_box(tmp_path: Path, content: bytes) -> None:
    boxes, labels, findings = read(tmp_path, content)
    assert (boxes.tolist(), labels.tolist(), findings) == ([[75, 25, 125, 75]], [1], [])
    assert (boxes.dtype, labels.dtype) == (np.float32, np.int64)


@each("content", ["", "\n", " \r\n\t\n", b"\xef\xbb\xbf"])
def test_file_without_rows_is_a_background(tmp_path: Path, content: str | bytes) -> None:
    boxes, labels, findings = read(tmp_path, content)
    assert (boxes.shape, labels.shape, findings) == ((0, 4), (0,), [])


def test_missing_file_is_a_background_and_no_finding(tmp_path: Path) -> None:
    boxes, labels, findings = read_labels(tmp_path / "none.txt", size=SIZE, num_classes=1)[:3]
    assert (boxes.shape, labels.shape, findings) == ((0, 4), (0,), [])


def test_whole_file_findings(tmp_path: Path) -> None:
    _, labels, findings = read(tmp_path, GOOD.encode("utf-16"))
    assert len(labels) == 0
    assert [(f.id, f.line) for f in findings] == [("label-encoding", 0)]
    (tmp_path / "b.txt").mkdir()
    _, _, findings = read_labels(tmp_path / "b.txt", size=SIZE, num_classes=1)[:3]
    assert [(f.id, f.line) for f in findings] == [("label-unreadable", 0)]


def test_rounding_at_the_border_is_forgiven_and_cut(tmp_path: Path) -> None:
    boxes, _, findings = read(tmp_path, "0 0.5 0.5 1.0009 1.0009\n0 0.0 0.1 0.0018 0.1")
    assert findings == []
    assert boxes[0].tolist() == [0, 0, 200, 100]
    assert boxes[1, 0] == 0


def test_findings_come_in_the_order_of_lines(tmp_path: Path) -> None:
    rows = ["1 0.05 0.5 0.25 0.5", "9 .5 .5 .1 .1", GOOD, GOOD, "x"]
    _, labels, findings = read(tmp_path, "\n".join(rows))
    assert [f.line for f in findings] == [1, 2, 4, 5]
    assert len(labels) == 2


def test_fast_reader_equals_the_careful_one_on_clean_files() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 7, 60):
        center, side = rng.uniform(0.3, 0.7, (count, 2)), rng.uniform(0.01, 0.6, (count, 2))
        rows = [
            f"{rng.integers(80)} {' '.join(f'{value:.6f}' for value in row)}"
            for row in np.hstack((center, side))
        ]
        data = "\n".join(rows).encode()
        fast = yolo._read_clean(data, SIZE, 80)
        careful = yolo._read_rows(Path("a.txt"), data, SIZE, 80)
        assert fast is not None
        assert careful[2] == []
        np.testing.assert_array_equal(fast[0], careful[0])
        np.testing.assert_array_equal(fast[1], careful[1])


@each(("row", "id"), [(row, id) for row, id, _ in BAD_ROWS])
def test_fast_reader_never_passes_what_the_careful_one_drops(row: str | bytes, id: str) -> None:
    data = row if isinstance(row, bytes) else row.encode()
    assert yolo._read_clean(data, SIZE, 3) is None
    assert yolo._read_rows(Path("a.txt"), data, SIZE, 3)[2][0].id == id


@each(
    ("image", "label"),
    [
        ("/d/images/train/a.jpg", "/d/labels/train/a.txt"),
        ("/images/d/images/a.b.jpg", "/images/d/labels/a.b.txt"),
        ("/d/pictures/a.jpg", "/d/pictures/a.txt"),
        ("/d/images2/a.jpg", "/d/images2/a.txt"),
        ("/d/train/images.jpg", "/d/train/images.txt"),
        ("images/a.png", "labels/a.txt"),
    ],
)
def test_where_the_label_file_of_an_image_is(tmp_path: Path, image: str, label: str) -> None:
    reader = open_split(data_set(tmp_path), "train")
    assert reader.sources([image]) == ([label], [ABSENT])


KEYPOINTS = "1 0.5 0.5 0.25 0.5 0.1 0.2 0.3 0.4 0.5 0.6"


def test_keypoints_are_ignored_and_the_box_is_used(tmp_path: Path) -> None:
    boxes, labels, findings = read(tmp_path, f"{KEYPOINTS}\n2 .5 .5 1 1\n", keypoint_columns=6)
    assert (labels.tolist(), boxes[0].tolist()) == ([1, 2], [75, 25, 125, 75])
    assert [(f.id, f.severity) for f in findings] == [("label-keypoints", "info")]
    _, labels, findings = read(tmp_path, f"{KEYPOINTS}\n", keypoint_columns=9)  # another shape
    assert (len(labels), [f.id for f in findings]) == (0, ["label-columns"])


@each("shape", [17, [17], [0, 2], [17, 4], ["17", 3], [True, 2]])
def test_wrong_shape_of_keypoints_is_refused(tmp_path: Path, shape: object) -> None:
    dataset = replace(data_set(tmp_path), options={"kpt_shape": shape})
    with pytest.raises(DatasetError, match=r"kpt_shape: expected \[number of keypoints, 2 or 3\]"):
        open_split(dataset, "train")


def test_box_algebra_by_hand() -> None:
    boxes = np.array([[10, 20, 30, 60], [-5, 90, 250, 120]], np.float32)
    assert algebra.clip_boxes(boxes, SIZE).tolist() == [[10, 20, 30, 60], [0, 90, 200, 100]]
    assert boxes[1, 0] == -5  # the argument is left as it was
    shares = algebra.xyxy_to_xywhn(boxes[:1], SIZE)
    np.testing.assert_allclose(shares, [[0.1, 0.4, 0.1, 0.4]])
    assert algebra.xywhn_to_xyxy(shares, SIZE).tolist() == [[10, 20, 30, 60]]
    assert algebra.polygon_to_box(np.array([[3, 9], [1, 5], [2, 7]])).tolist() == [1, 5, 3, 9]
