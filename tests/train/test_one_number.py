"""One detector, one number: what training logs, `det val` measures, and `det val` and `det predict`
write as JSON is the same AP, and pycocotools says so from label files that it reads by itself."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_reference import NAMES, RECALLS, pycocotools_numbers
from tiny import use_tiny_detector
from yolodet.cli import main
from yolodet.weights.checkpoint import read_meta

SIZES = ((64, 64), (48, 96), (100, 60), (80, 120), (64, 50), (33, 64))
"""(height, width) of images: the network's input, smaller and larger, tall and wide."""
TRAIN = {
    "model": "yolo26n", "epochs": 12, "imgsz": 64, "batch": 4, "nbs": 4, "amp": False,
    "mosaic": 0.0, "scale": 0.0, "translate": 0.0, "plots": False, "patience": 0,
}  # fmt: skip


def write_rectangles(folder: Path) -> Path:
    """Bright and dark rectangles on gray in images of all shapes, some empty; returns the YAML.

    No two look alike: flat colors would have equal scores, whose order is a matter of rounding.
    """
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 12)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            height, width = SIZES[number % len(SIZES)]
            image = rng.integers(90, 140, (height, width, 3), dtype=np.uint8)
            rows = []
            for label in range(2 if number % 5 else 0):
                w, h = (rng.uniform(0.25, 0.45, 2) * (width, height)).astype(int)
                x = int(rng.integers(0, width // 2 - w + 1)) + label * (width // 2)
                y = int(rng.integers(0, height - h + 1))
                image[y : y + h, x : x + w] = (230, 25)[label] + rng.integers(-25, 26, (h, w, 3))
                shares = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
                rows.append(" ".join(map(str, (label, *shares))))
            assert cv2.imwrite(str(folder / "images" / split / f"{number:02}.png"), image)
            (folder / "labels" / split / f"{number:02}.txt").write_text("\n".join(rows))
    yaml = folder / "data.yaml"
    yaml.write_text("train: images/train\nval: images/val\nnames: [bright, dark]\n")
    return yaml


def as_coco(folder: Path) -> dict[str, Any]:
    """The labels of val as COCO writes them: pixels of the image, corner and size."""
    images, annotations = [], []
    for number, path in enumerate(sorted((folder / "images" / "val").glob("*.png"))):
        height, width = cv2.imread(str(path)).shape[:2]
        images.append({"id": number, "file_name": path.name, "width": width, "height": height})
        text = (folder / "labels" / "val" / f"{path.stem}.txt").read_text()
        for label, *shares in (map(float, line.split()) for line in text.splitlines()):
            x, y, w, h = np.float64(shares) * (width, height, width, height)
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": int(label),
                "bbox": [x - w / 2, y - h / 2, w, h], "area": w * h, "iscrowd": 0,
            })  # fmt: skip
    categories = [{"id": 0, "name": "bright"}, {"id": 1, "name": "dark"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def of_predict(file: Path) -> list[dict[str, Any]]:
    """What `det predict` wrote, in COCO's results format; images in the order of their names."""
    rows = sorted(json.loads(file.read_text()), key=lambda row: row["path"])
    found = []
    for number, row in enumerate(rows):
        for each in row["detections"]:
            x1, y1, x2, y2 = each["box"].values()
            box = [x1, y1, x2 - x1, y2 - y1]
            one = {"image_id": number, "category_id": each["class"], "bbox": box}
            found.append(one | {"score": each["confidence"]})
    return found


@pytest.fixture
def det(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command of det on a tiny detector; returns its result."""
    use_tiny_detector(monkeypatch)

    def run(command: str, **words: Any) -> dict[str, Any]:
        usual: dict[str, Any] = {"device": "cpu"}
        if command != "export":
            usual["project"] = tmp_path / "runs"
        if command in ("train", "val"):
            usual |= {"workers": 0, "plots": False}
        typed = [f"{name}={value}" for name, value in (usual | words).items()]
        assert main([command, *typed, "--json", "--quiet"]) == 0
        return json.loads(capsys.readouterr().out)["result"]

    return run


@pytest.mark.parametrize("nms", [False, True])
def test_training_val_and_predict_give_one_number(tmp_path: Path, det: Any, nms: bool) -> None:
    data = write_rectangles(tmp_path / "data")
    trained = det("train", data=data, nms=nms, **TRAIN)
    best, names = trained["best"], (*NAMES, *RECALLS)
    expected = {name: trained["metrics"][name] for name in names}
    assert 0.01 < expected["map"] < 0.95  # a number that could differ

    with (Path(trained["folder"]) / "results.csv").open() as file:
        logged = [float(row["metrics/map"]) for row in csv.DictReader(file)]
    assert max(logged) == pytest.approx(expected["map"], abs=1e-6)

    measured = det("val", model=best, data=data, nms=nms, save_json=True)
    assert {name: measured["metrics"][name] for name in names} == same(expected)
    truth = as_coco(data.parent)
    found = json.loads((Path(measured["folder"]) / "predictions.json").read_text())
    assert plain(pycocotools_numbers(truth, found)) == same(expected)

    source = data.parent / "images" / "val"
    told = {"nms": nms, "conf": 0.001, "save": False, "save_json": True}
    for batch in (1, 5, 16):
        predicted = det("predict", model=best, source=source, batch=batch, **told)
        found = of_predict(Path(predicted["folder"]) / "predictions.json")
        assert plain(pycocotools_numbers(truth, found)) == same(expected), f"batch={batch}"


@pytest.mark.parametrize("words", [{"imgsz": "[64,128]"}, {"rect": True}])
def test_rectangles_give_one_number(tmp_path: Path, det: Any, words: dict[str, Any]) -> None:
    """From training through val and predict to the exported file, batch by batch."""
    data = write_rectangles(tmp_path / "data")
    told = {"max_det": 20}  # few, so that a dynamic file takes the smallest inputs
    trained = det("train", data=data, **TRAIN | told | words)
    best, expected = trained["best"], trained["metrics"]["map"]
    assert 0.01 < expected < 0.95
    meta = read_meta(Path(best))
    size: Any = 64 if "rect" in words else (64, 128)
    assert (meta.image_size, meta.rect, meta.schema) == (size, "rect" in words, 3)

    rect = "rect" in words
    exported = det("export", model=best, data=data, format="onnx", dynamic=rect, **told)
    file = exported["exports"][0]
    assert file["passed"]
    assert file["parity"]["ap"] == [pytest.approx(expected, abs=1e-3)] * 2
    truth, source = as_coco(data.parent), data.parent / "images" / "val"
    for model, batch in ((best, 1), (best, 5), (file["file"], 4)):
        measured = det("val", model=model, data=data, batch=batch, **told)
        assert measured["metrics"]["map"] == pytest.approx(expected, abs=1e-3), (model, batch)
        wanted = {"conf": 0.001, "save": False, "save_json": True}
        predicted = det("predict", model=model, source=source, batch=batch, **told | wanted)
        found = of_predict(Path(predicted["folder"]) / "predictions.json")
        ap = plain(pycocotools_numbers(truth, found))["map"]
        assert ap == pytest.approx(expected, abs=1e-3), (model, batch)
    other = {"rect": False} if rect else {"imgsz": 64}
    assert det("val", model=best, data=data, **told | other)["metrics"]["map"] != expected


def test_a_run_of_16_bits_is_the_run_of_8(tmp_path: Path, det: Any) -> None:
    """pixels= through training, val, predict and export: the numbers of the plain images."""
    plain_data, deep_data = (write_rectangles(tmp_path / name) for name in ("plain", "deep"))
    for file in sorted(plain_data.parent.glob("images/*/*.png")):
        image = cv2.imread(str(file))
        image[0, :2] = [[0], [255]]  # with its whole range, an image is the same after minmax
        assert cv2.imwrite(str(file), image)
        deep = deep_data.parent / file.relative_to(plain_data.parent)
        assert cv2.imwrite(str(deep), image.astype(np.uint16) * 8 + 1000)
    words = TRAIN | {"epochs": 6, "mosaic": 0.5}
    expected = det("train", data=plain_data, **words)["metrics"]["map"]
    trained = det("train", data=deep_data, pixels="minmax", **words)
    best = trained["best"]
    assert 0.001 < expected == trained["metrics"]["map"]
    assert read_meta(Path(best)).pixels == "minmax"

    exported = det("export", model=best, data=deep_data, format="torchscript")["exports"][0]
    assert exported["parity"]["ap"] == [pytest.approx(expected, abs=1e-6)] * 2
    truth, source = as_coco(deep_data.parent), deep_data.parent / "images" / "val"
    for model in (best, exported["file"]):
        measured = det("val", model=model, data=deep_data)["metrics"]["map"]
        assert measured == pytest.approx(expected, abs=1e-6)
    told = {"conf": 0.001, "save": False, "save_json": True}
    predicted = det("predict", model=best, source=source, **told)
    found = of_predict(Path(predicted["folder"]) / "predictions.json")
    assert plain(pycocotools_numbers(truth, found))["map"] == pytest.approx(expected, abs=1e-6)
    raw = det("train", data=deep_data, pixels="raw", **words)["metrics"]["map"]
    assert raw != expected


def test_a_run_of_rectangles_resumes_as_it_began(tmp_path: Path, det: Any) -> None:
    data = write_rectangles(tmp_path / "data")
    words = {"imgsz": "64,96", "rect": True, "epochs": 1, "mosaic": 0.5, "multi_scale": 0.3}
    began = det("train", data=data, **TRAIN | words)
    meta = read_meta(Path(det("train", resume=began["folder"], epochs=2)["best"]))
    assert (meta.image_size, meta.rect) == ((64, 96), True)


def test_a_run_with_merged_classes_is_the_run_on_rewritten_files(tmp_path: Path, det: Any) -> None:
    """names= through the whole course: train, resume, val, predict and the proof of an export."""
    rewritten = write_rectangles(tmp_path / "rewritten")
    data = write_rectangles(tmp_path / "data")
    for file in sorted(data.parent.glob("labels/*/*1.txt")):
        file.write_text(re.sub("^0 ", "2 ", file.read_text(), flags=re.MULTILINE))
    data.write_text(data.read_text().replace("[bright, dark]", "[bright, dark, white]"))
    rules = "bright,white->bright"

    began = det("train", data=data, names=rules, **TRAIN | {"epochs": 1})
    trained = det("train", resume=began["folder"], epochs=12)
    plainly = det("train", data=rewritten, **TRAIN | {"epochs": 1})
    plainly = det("train", resume=plainly["folder"], epochs=12)
    expected = trained["metrics"]
    assert 0.01 < expected["map"] == plainly["metrics"]["map"]

    best = trained["best"]
    exported = det("export", model=best, data=data, format="torchscript")
    written = exported["exports"][0]
    assert written["passed"] and written["about"]["names"] == ["bright", "dark"]
    assert written["parity"]["ap"] == [pytest.approx(expected["map"], abs=1e-6)] * 2
    for model, where in ((best, data), (best, rewritten), (written["file"], data)):
        measured = det("val", model=model, data=where)
        assert measured["metrics"]["map"] == pytest.approx(expected["map"], abs=1e-6), model
        assert [row["name"] for row in measured["metrics"]["per_class"]] == ["bright", "dark"]
    source = data.parent / "images" / "val"
    predicted = det("predict", model=best, source=source, conf=0.001, save=False, save_json=True)
    rows = json.loads((Path(predicted["folder"]) / "predictions.json").read_text())
    named = {(each["class"], each["name"]) for row in rows for each in row["detections"]}
    assert named == {(0, "bright"), (1, "dark")}


def test_val_on_coco_json_with_crowds_and_areas_is_pycocotools(tmp_path: Path, det: Any) -> None:
    data = write_rectangles(tmp_path / "data")
    best = det("train", data=data, **TRAIN)["best"]
    plainly = det("val", model=best, data=data)["metrics"]
    truth = as_coco(data.parent)
    rng = np.random.default_rng(0)
    for row in truth["annotations"]:  # the area of a mask is not that of its box
        row |= {"area": float(rng.uniform(100, 12000)), "ignore": int(rng.integers(2))}
    for image in truth["images"]:
        size = np.array((image["width"], image["height"]))
        for label in (0, 0, 1):
            low, sides = rng.uniform(0, 0.5, 2) * size, rng.uniform(0.2, 0.5, 2) * size
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": image["id"],
                "category_id": label, "bbox": [*low, *sides], "area": float(sides.prod()) / 2,
                "iscrowd": 1, "ignore": 0,
            })  # fmt: skip
    (data.parent / "val.json").write_text(json.dumps(truth))
    yaml = data.parent / "coco.yaml"
    yaml.write_text("format: coco\nimages: images/val\nval: val.json\n")

    measured = det("val", model=best, data=yaml, save_json=True)
    found = json.loads((Path(measured["folder"]) / "predictions.json").read_text())
    expected = plain(pycocotools_numbers(truth, found))
    assert {name: measured["metrics"][name] for name in expected} == same(expected)
    for name in ("map", "map_small", "map_large"):  # crowds and areas count
        assert expected[name] != pytest.approx(plainly[name], abs=1e-3), name


def same(numbers: dict[str, float | None]) -> Any:
    return pytest.approx(numbers, abs=1e-6)


def plain(numbers: dict[str, float]) -> dict[str, float | None]:
    """As JSON has them: None where there is no number."""
    return {name: None if np.isnan(value) else value for name, value in numbers.items()}
