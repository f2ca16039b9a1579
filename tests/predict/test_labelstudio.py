"""``save_labelstudio=True``: what Label Studio is told comes back as the boxes that were found."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from exports import make_image, make_run
from yolodet import YOLO
from yolodet.datasets.formats.foreign.label_studio import LabelStudioReader


def test_tasks_hold_the_boxes_of_det(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path, monkeypatch)
    Path("my photos").mkdir()
    for number in (0, 1):
        assert cv2.imwrite(f"my photos/{number}.png", make_image((64, 96), number))
    model = YOLO("runs/train/weights/best.safetensors")
    words = {"conf": 0.2, "device": "cpu", "verbose": False}
    results = model.predict("my photos", save_labelstudio=True, **words)
    video = cv2.VideoWriter("v.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 5, (96, 64))
    video.write(make_image((64, 96), 0))
    video.release()
    model.predict("v.mp4", save_labelstudio=True, **words)
    assert not Path("runs/predict-2/labelstudio.json").exists(), "frames of videos are no tasks"

    tasks = json.loads(Path("runs/predict/labelstudio.json").read_text())
    assert tasks[0]["data"] == {"image": "/data/local-files/?d=my%20photos/0.png"}
    accepted = [{**each, "annotations": each["predictions"]} for each in tasks]
    Path("export.json").write_text(json.dumps(accepted))
    read = LabelStudioReader.document(Path("export.json"), "train")
    assert [each["file_name"] for each in read["images"]] == ["my photos/0.png", "my photos/1.png"]
    names = {each["id"]: each["name"] for each in read["categories"]}
    for image, result in zip(read["images"], results, strict=True):
        rows = [each for each in read["annotations"] if each["image_id"] == image["id"]]
        mine = result.boxes.numpy()
        assert len(rows) == len(mine) > 3
        boxes = np.array([each["bbox"] for each in rows])
        boxes[:, 2:] += boxes[:, :2]
        limits = np.array([96, 64, 96, 64])
        np.testing.assert_allclose(boxes, mine.xyxy.clip(0, limits), atol=1e-3)
        assert [names[r["category_id"]] for r in rows] == [result.names[int(i)] for i in mine.cls]
    found = [each["score"] for each in tasks[0]["predictions"][0]["result"]]
    np.testing.assert_array_equal(np.float32(found), results[0].boxes.numpy().conf)
