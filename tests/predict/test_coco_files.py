"""``save_coco=True``: COCO's tools read the boxes that were found."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from exports import make_image, make_run
from yolodet import YOLO
from yolodet.cli import main

BEST = "runs/train/weights/best.safetensors"


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_run(tmp_path, monkeypatch)
    Path("photos").mkdir()
    return tmp_path


def write(*names: str) -> None:
    for seed, name in enumerate(names):
        assert cv2.imwrite(f"photos/{name}.png", make_image((64, 96), seed))


@pytest.mark.parametrize(
    ("names", "ids"),
    [(("000139", "7"), [139, 7]), (("7", "a"), [0, 1])],
    ids=["numbered", "by position"],
)
def test_pycocotools_reads_the_boxes_of_det(room: Path, names: tuple[str, ...], ids) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    write(*names)
    model = YOLO(BEST)
    results = model.predict("photos", conf=0.2, device="cpu", verbose=False, save_coco=True)
    truth = coco.COCO("runs/predict/coco_images.json")
    assert {c["id"]: c["name"] for c in truth.dataset["categories"]} == model.names
    found = truth.loadRes("runs/predict/coco_predictions.json")
    assert truth.getImgIds() == ids
    for number, result in zip(ids, results, strict=True):
        (image,) = truth.loadImgs(number)
        assert image["file_name"] == result.path and (image["height"], image["width"]) == (64, 96)
        rows = found.loadAnns(found.getAnnIds(imgIds=[number]))
        mine = result.boxes.numpy()
        assert len(rows) == len(mine) > 3
        boxes = np.array([row["bbox"] for row in rows])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(boxes, mine.xyxy, atol=1e-4)
        assert [row["category_id"] for row in rows] == mine.cls.tolist()
        np.testing.assert_array_equal(np.float32([row["score"] for row in rows]), mine.conf)


def test_nothing_found_is_an_empty_list_and_videos_are_left_out_aloud(room: Path, capsys) -> None:
    write("a")
    words = ["device=cpu", "save=False", "save_coco=True"]
    assert main(["predict", f"model={BEST}", "source=photos", "conf=1.0", *words]) == 0
    files = sorted(path.name for path in Path("runs/predict").iterdir())
    assert files == ["coco_images.json", "coco_predictions.json"], "nothing else is left"
    assert json.loads(Path("runs/predict/coco_predictions.json").read_text()) == []
    assert len(json.loads(Path("runs/predict/coco_images.json").read_text())["images"]) == 1
    video = cv2.VideoWriter("v.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 5, (96, 64))
    video.write(make_image((64, 96), 0))
    video.release()
    capsys.readouterr()
    assert main(["predict", f"model={BEST}", "source=v.mp4", "save_labelstudio=True", *words]) == 0
    assert capsys.readouterr().err.count("frames of videos are left out") == 1
    assert not list(Path("runs/predict-2").glob("*.json"))
