"""What det converts is what supervision reads.  Runs where supervision is installed; det does not
depend on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_data import DATA
from yolodet.datasets.edit.convert import convert
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset

pytestmark = pytest.mark.usefixtures("place")
SETS = {"bccd": "bccd/bccd.yaml", "rbc": "rbc", "chess": "chess"}


@pytest.mark.parametrize("name", SETS)
def test_supervision_reads_the_boxes_that_were_converted(name: str, place: Path) -> None:
    reader = pytest.importorskip("supervision", reason="needs supervision").DetectionDataset
    if not (DATA / name).is_dir():
        pytest.skip(f"needs the data set in {DATA / name}")
    dataset = load_dataset(str(DATA / SETS[name]))
    truth = scan_split(dataset, "val").records
    for target in ("yolo", "coco", "voc"):
        root = place / target
        convert(dataset, root, target)
        images = root / "images/val"
        if target == "yolo":
            read = reader.from_yolo(str(images), str(root / "labels/val"), str(root / "data.yaml"))
        elif target == "coco":
            (file,) = root.rglob("*val*.json")
            read = reader.from_coco(str(root / "images"), str(file))
        else:
            (folder,) = {file.parent for file in root.rglob("val/*.xml")}
            read = reader.from_pascal_voc(str(images), str(folder))
        found = {Path(path).name: boxes for path, boxes in read.annotations.items()}
        assert len(found) == len(truth)
        for record in truth:
            boxes = found[record.path.name]
            # It takes 1 from the first corner of a VOC box, and leaves the second as it is.
            corners = boxes.xyxy + np.array([1, 1, 0, 0]) * (target == "voc")
            ours = sorted_rows([dataset.class_names[n] for n in record.labels], record.boxes)
            theirs = sorted_rows([read.classes[n] for n in boxes.class_id], corners)
            assert [row[0] for row in ours] == [row[0] for row in theirs]
            np.testing.assert_allclose(
                np.array([row[1:] for row in ours]),
                np.array([row[1:] for row in theirs]),
                atol=0.001,
            )


def sorted_rows(names: list[str], boxes: np.ndarray) -> list[tuple[object, ...]]:
    """Class and corners, in an order that a last digit does not change."""
    rows = [(name, *box) for name, box in zip(names, boxes.tolist(), strict=True)]
    return sorted(rows, key=lambda row: (row[0], *(round(x, 2) for x in row[1:])))
