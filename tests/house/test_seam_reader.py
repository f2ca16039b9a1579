"""The seam of label formats: a reader added from outside is scanned, cached, examined, measured.

The format is one that YOLO text is least like: one JSON per split, beside its images, with the
class names, crowds and areas inside.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from coco_reference import NAMES, RECALLS, detections, pycocotools_numbers, random_boxes
from made_data import add_image, describe
from yolodet.datasets.formats import reader as formats
from yolodet.datasets.formats.reader import Annotation, Reader, stamp_of
from yolodet.datasets.nouns import Letterbox
from yolodet.datasets.scan.doctor import check_dataset
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.dataset import Dataset, DatasetError
from yolodet.datasets.sets.finding import Finding
from yolodet.datasets.sets.listing import Listing
from yolodet.datasets.sets.locate import load_dataset
from yolodet.detector.evaluate import evaluator
from yolodet.detector.evaluate.metrics import DetectionCollector

SIZE = (300, 400)


class JsonReader(Reader):
    loads = 0

    @classmethod
    def accepts(cls, source):
        return source.suffix == ".json"

    @classmethod
    def class_names(cls, dataset):
        files = [json.loads(p.read_text()) for paths in dataset.splits.values() for p in paths]
        return tuple(sorted({row["name"] for file in files for row in file["categories"]}))

    @property
    def index_files(self):
        return self.paths

    @cached_property
    def rows(self):
        JsonReader.loads += 1
        data = json.loads(self.paths[0].read_text())
        names = {row["id"]: row["name"] for row in data["categories"]}
        rows = {self.path(image): [] for image in data["images"]}
        owners = {image["id"]: self.path(image) for image in data["images"]}
        for row in data["annotations"]:
            rows[owners[row["image_id"]]].append({**row, "name": names[row["category_id"]]})
        return rows

    def path(self, image):
        return str(self.paths[0].with_name(image["file_name"]))

    def list_images(self):
        return Listing({path: stamp_of(path) for path in sorted(self.rows)})

    def sources(self, images):
        return [str(self.paths[0])] * len(images), [stamp_of(self.paths[0])] * len(images)

    def read(self, image, source, size):
        good = [row for row in self.rows[image] if min(row["bbox"][2:]) > 0]
        bad = [Finding("label-zero-area", "error", Path(source), 0, "no area")] * (
            len(self.rows[image]) - len(good)
        )
        boxes = np.array([row["bbox"] for row in good], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([self.dataset.class_names.index(row["name"]) for row in good], np.int64)
        crowd, area = (np.array([row[key] for row in good]) for key in ("iscrowd", "area"))
        return Annotation(boxes, labels, bad, crowd.astype(bool), area.astype(np.float32))


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataset]:
    monkeypatch.setattr(formats, "_READERS", dict(formats._READERS))
    formats.register("boxes-json")(JsonReader)
    JsonReader.loads = 0
    for split, images in (("train", 3), ("val", 8)):
        write_split(tmp_path / split, images)
    text = "format: boxes-json\ntrain: train/boxes.json\nval: val/boxes.json\n"
    return load_dataset(describe(tmp_path, text))


def write_split(folder: Path, images: int) -> None:
    """Images with 0 to 5 boxes, a third of them crowds, with areas of masks."""
    rng = np.random.default_rng(images)
    rows = []
    for image in range(images):
        add_image(folder / f"{image}.png", SIZE, row=None)
        for x0, y0, x1, y1 in random_boxes(rng, image % 6, size=140.0).round(2).tolist():
            box = [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)]
            area = round(box[2] * box[3] * rng.uniform(0.1, 0.9), 3)
            rows.append({"id": len(rows) + 1, "image_id": image, "bbox": box, "area": area,
                         "category_id": int(rng.choice((7, 3))),
                         "iscrowd": int(rng.random() < 0.33)})  # fmt: skip
    names = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]}
            for i in range(images)
        ],
        "annotations": rows,
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
    }
    (folder / "boxes.json").write_text(json.dumps(names))


def edit(dataset: Dataset, split: str, change: object) -> None:
    file = dataset.splits[split][0]
    data = json.loads(file.read_text())
    assert callable(change)
    change(data)
    file.write_text(json.dumps(data))


def test_the_reader_from_outside_is_short() -> None:
    code = [line for line in inspect.getsource(JsonReader).splitlines() if line.strip()]
    assert len(code) <= 40


def test_its_classes_boxes_crowds_and_areas_are_scanned(dataset: Dataset) -> None:
    assert (dataset.format, dataset.class_names) == ("boxes-json", ("cat", "dog"))
    scan = scan_split(dataset, "val")
    rows = json.loads(dataset.splits["val"][0].read_text())["annotations"]
    assert len(scan.records) == 8 and scan.findings == [] and scan.unlabeled == []
    found = [record for record in scan.records if len(record.labels)]
    for name in ("crowd", "area"):
        told = np.concatenate([getattr(record, name) for record in found])
        key = {"crowd": "iscrowd"}.get(name, name)
        np.testing.assert_allclose(told, [row[key] for row in rows], rtol=1e-6)
    assert [label for r in found for label in r.labels] == [
        int(row["category_id"] == 3) for row in rows
    ]


def test_its_results_are_kept_until_its_file_or_an_image_changes(
    dataset: Dataset, reads: list[str]
) -> None:
    cold = scan_split(dataset, "val")
    assert (JsonReader.loads, len(reads)) == (1, 8)
    warm = scan_split(dataset, "val")
    assert (JsonReader.loads, len(reads)) == (1, 8)  # neither the JSON nor an image is opened
    assert warm.fingerprint == cold.fingerprint
    for old, new in zip(cold.records, warm.records, strict=True):
        assert (old.path, old.size, old.boxes.tolist()) == (new.path, new.size, new.boxes.tolist())
        crowd = np.zeros(len(new.labels), bool) if new.crowd is None else new.crowd
        assert np.array_equal(old.crowd, crowd) and np.array_equal(old.area, new.area)
    add_image(dataset.root / "val/0.png", (30, 40), row=None)
    assert scan_split(dataset, "val").records[0].size == (30, 40)
    assert (JsonReader.loads, reads[8:]) == (2, ["0.png"])
    edit(dataset, "val", lambda data: data["annotations"].pop(0))
    changed = scan_split(dataset, "val")
    assert (JsonReader.loads, len(reads)) == (3, 17)
    before, after = (sum(len(r.labels) for r in scan.records) for scan in (cold, changed))
    assert after == before - 1
    (dataset.root / "val/7.png").unlink()
    edit(dataset, "val", lambda data: data["annotations"].clear())
    assert [f.id for f in scan_split(dataset, "val").findings][-1] == "split-without-box"


def test_the_doctor_examines_it(dataset: Dataset) -> None:
    assert check_dataset(dataset).count("error") == 0
    edit(dataset, "train", lambda data: data["annotations"][0].update(bbox=[1, 1, 0, 5]))
    report = check_dataset(dataset)
    # The only box of image 1 is bad, so the image is left out: it is no background.
    assert {g.id: g.count for g in report.groups if g.severity == "error"} == {
        "label-zero-area": 1, "image-left-out": 1,
    }  # fmt: skip
    train = report.splits["train"]
    assert (train.images, train.usable, train.backgrounds) == (3, 2, 1)


def test_an_unknown_format_and_a_source_it_does_not_take_are_refused(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match=r"format 'boxs-json'; .* did you mean boxes-jso"):
        scan_split(replace(dataset, format="boxs-json"), "val")
    text = "format: boxes-json\ntrain: data.xml\n"
    (dataset.root / "data.xml").write_text("")
    with pytest.raises(DatasetError, match=r"data\.xml is not a folder of images"):
        load_dataset(describe(dataset.root / "x", text.replace("data.xml", "../data.xml")))


def test_ap_with_its_crowds_and_areas_is_that_of_pycocotools(dataset: Dataset) -> None:
    records = scan_split(dataset, "val").records
    data = json.loads(dataset.splits["val"][0].read_text())
    rng = np.random.default_rng(0)
    collector, results = DetectionCollector(dataset.class_names), []
    for index, record in enumerate(records):
        noise = rng.normal(size=(2 * len(record.boxes), 4)) * 3
        boxes = np.concatenate((record.boxes.repeat(2, 0) + noise, random_boxes(rng, 3)))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        boxes = boxes.clip(0, SIZE[1::-1] * 2).astype(np.float32)
        found = detections(boxes, rng.random(len(boxes)), rng.integers(0, 2, len(boxes)))
        batch = SimpleNamespace(
            indices=[index], original_sizes=[record.size], letterboxes=[Letterbox(1.0, 0.0, 0.0)],
            lost={},
        )
        ((place, in_original),) = evaluator._in_original(batch, [found])
        collector.add(place, records[place], in_original)
        columns = (found.boxes.double(), found.scores.double(), found.labels)
        for (x0, y0, x1, y1), score, label in zip(*(c.tolist() for c in columns), strict=True):
            results.append({"image_id": index, "category_id": (7, 3)[label], "score": score,
                            "bbox": [x0, y0, x1 - x0, y1 - y0]})  # fmt: skip
    metrics = collector.compute()
    expected = pycocotools_numbers(data, results)
    assert {name: getattr(metrics, name) for name in NAMES + RECALLS} == pytest.approx(
        expected, abs=1e-6, nan_ok=True
    )
    for row in data["annotations"]:  # the numbers depend on both
        row.update(iscrowd=0)
    assert pycocotools_numbers(data, results)["map"] != pytest.approx(expected["map"], abs=1e-3)
    for row in data["annotations"]:
        row.update(area=row["bbox"][2] * row["bbox"][3])
    assert pycocotools_numbers(data, results)["map_small"] != pytest.approx(
        expected["map_small"], abs=1e-3, nan_ok=True
    )
