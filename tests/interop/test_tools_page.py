"""The examples of docs/tools.md, run with the real packages: what they find is what det finds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
import pytest
from exports import make_image, make_run
from yolodet import YOLO

PAGE = Path(__file__).parents[2] / "docs" / "tools.md"
CONFIG = """<View><Image name="image" value="$image"/>
<RectangleLabels name="label" toName="image">{}</RectangleLabels></View>"""
BEST = "runs/train/weights/best.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run, a photo and a video of twelve equal frames, as the current folder."""
    place = tmp_path_factory.mktemp("tools")
    with pytest.MonkeyPatch.context() as patch:
        make_run(place, patch)
        assert cv2.imwrite("photo.png", make_image((96, 96), 5))
        video = cv2.VideoWriter("street.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 5, (96, 96))
        for _ in range(12):
            video.write(make_image((96, 96), 5))
        video.release()
        yield place


def example(title: str) -> dict[str, Any]:
    """What is left by the first example and the one below a title of the page."""
    text = PAGE.read_text().replace("photo.jpg", "photo.png")  # the exact pixels for every reader
    names: dict[str, Any] = {}
    for part in (text, text.split(f"\n## {title}\n")[1]):
        code = re.search(r"```python\n(.*?)```", part, re.DOTALL)
        assert code is not None
        exec(compile(code[1], title, "exec"), names)
    assert len(names["result"]) > 3
    return names


def test_supervision_has_the_boxes_and_draws_them(folder: Path) -> None:
    pytest.importorskip("supervision")
    names = example("supervision")
    found, mine = names["detections"], names["result"].boxes.numpy()
    np.testing.assert_array_equal(found.xyxy, mine.xyxy)
    np.testing.assert_array_equal(found.confidence, mine.conf)
    np.testing.assert_array_equal(found.class_id, mine.cls)
    assert list(found.data["class_name"]) == [names["result"].names[int(i)] for i in mine.cls]
    assert (names["drawn"] != names["image"]).any() and names["inside"].shape == mine.conf.shape
    import supervision as sv

    assert len(sv.Detections.from_ultralytics(names["result"][:0])) == 0


@pytest.mark.parametrize("exported", [False, True], ids=["checkpoint", "onnx"])
def test_sahi_has_the_boxes_of_a_picture_that_is_not_tiled(folder: Path, exported: bool) -> None:
    pytest.importorskip("sahi")
    from sahi.predict import get_prediction

    names = example("SAHI")
    assert names["found"].object_prediction_list
    model = names["tiled"]
    if exported:
        pytest.importorskip("onnxruntime")
        file = str(Path(names["model"].export(format="onnx", device="cpu")))
        model = names["DetModel"](model_path=file, confidence_threshold=0.2, device="cpu")
    found = get_prediction("photo.png", model).object_prediction_list
    mine = names["result"].boxes.numpy()
    clipped = mine.xyxy.clip(0, 96)
    seen = (clipped[:, 2:] > clipped[:, :2]).all(1)
    assert [each.category.id for each in found] == mine.cls[seen].tolist()
    corners = np.array([each.bbox.to_xyxy() for each in found])
    np.testing.assert_allclose(corners, clipped[seen], atol=1e-3)
    scores = np.array([each.score.value for each in found])
    np.testing.assert_allclose(scores, mine.conf[seen], atol=1e-4)


def test_trackers_gives_one_id_per_object_that_stands_still(folder: Path) -> None:
    pytest.importorskip("trackers")
    names = example("trackers")
    ids = names["tracked"].tracker_id
    kept = ids[ids >= 0]
    assert len(kept) and len(set(kept.tolist())) == len(kept)
    boxes = names["frame"].boxes.numpy().xyxy
    near = np.abs(names["tracked"].xyxy[:, None] - boxes).max(2).min(1)
    assert near.max() < 1e-3


def test_norfair_follows_the_boxes(folder: Path) -> None:
    pytest.importorskip("norfair")
    names = example("norfair")
    boxes = names["frame"].boxes.numpy().xyxy
    assert names["objects"]
    for each in names["objects"]:
        assert np.abs(each.last_detection.points.reshape(4) - boxes).max(1).min() < 1e-3


def test_label_studio_takes_the_tasks(folder: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    model = YOLO(BEST)
    model.predict("photo.png", conf=0.2, device="cpu", save_labelstudio=True, name="tasks")
    labels = "".join(f"<Label value={quoteattr(name)}/>" for name in model.names.values())
    project = interface.LabelInterface(CONFIG.format(labels))
    (task,) = json.loads(Path("runs/tasks/labelstudio.json").read_text())
    (prediction,) = task["predictions"]
    assert len(prediction["result"]) > 3
    assert project.validate_prediction(prediction, return_errors=True) == []
    prediction["result"][0]["value"]["rectanglelabels"] = ["no class"]
    assert project.validate_prediction(prediction, return_errors=True) != []
