"""Results: in words, JSON, label rows and pictures; and a writer that keeps to its folder."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from yolodet.datasets.formats.yolo import read_labels
from yolodet.datasets.images.image import read_image
from yolodet.detector.predict.results import Result, ResultWriter, crop_box
from yolodet.detector.predict.sources import open_source
from yolodet.detector.predict.video import VideoReader, VideoWriter

CLASS_NAMES = ("clock", "kite", "bus")


def make_result(boxes, labels=None, scores=None, size=(40, 60), path="a.png", frame=None, fps=None):
    rng = np.random.default_rng(1)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.zeros(len(boxes), np.int64) if labels is None else np.array(labels)
    scores = np.array([0.5] * len(boxes) if scores is None else scores, np.float32)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    speed = {"pre": 1.0, "inference": 10.0, "post": 1.34}
    return Result(Path(path), frame, image, boxes, scores, labels, CLASS_NAMES, speed, fps)


def tree(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_summary_counts_in_words():
    result = make_result([[0, 0, 9, 9]] * 6, labels=[1, 0, 2, 0, 2, 0])
    assert result.summary() == "60x40 3 clocks, 1 kite, 2 buses 12.3 ms"
    assert make_result([]).summary() == "60x40 no detections 12.3 ms"
    named = replace(result, class_names=("glass", "scissors", "person"))
    assert named.summary().startswith("60x40 3 glasses, 1 scissors, 2 persons ")


def test_dicts_are_json_ready_and_named():
    result = make_result([[1.5, 2, 30.25, 40]], labels=[1], scores=[0.123456789])
    assert json.loads(json.dumps(result.to_dicts())) == [{
        "name": "kite", "class": 1, "confidence": 0.12345679,
        "box": {"x1": 1.5, "y1": 2.0, "x2": 30.25, "y2": 40.0}}]


def test_dicts_hold_the_float32_numbers_to_the_bit():
    rng = np.random.default_rng(0)
    boxes = (rng.random((200, 4)) * 2000).astype(np.float32)
    scores = rng.random(200, np.float32) ** 8
    rows = json.loads(json.dumps(make_result(boxes, scores=scores).to_dicts()))
    assert np.array_equal(np.float32([list(row["box"].values()) for row in rows]), boxes)
    assert np.array_equal(np.float32([row["confidence"] for row in rows]), scores)
    assert max(len(str(row["confidence"])) for row in rows) <= 14


def test_label_rows_read_back_are_the_same_boxes(tmp_path):
    rng = np.random.default_rng(0)
    size = (1080, 1920)
    corners = np.sort(rng.uniform(0, 1, (50, 2, 2)), axis=1) * size[::-1]
    boxes = np.concatenate((corners.reshape(-1, 4), [[0, 0, 1920, 1080]])).astype(np.float32)
    labels = rng.integers(0, 3, len(boxes))
    scores = np.linspace(1, 0.1, len(boxes))
    result = make_result(boxes, labels, scores, size=size)
    with ResultWriter(tmp_path, save=False, save_txt=True) as writer:
        writer.write(result)
    back, ids, findings = read_labels(tmp_path / "labels" / "a.txt", size=size, num_classes=3)
    assert findings == [] and np.array_equal(ids, labels)
    assert np.allclose(back, boxes, atol=0.005)
    assert [float(row.split()[5]) for row in result.to_rows(with_scores=True)] == pytest.approx(
        scores.tolist(), abs=1e-6)


def test_drawing_leaves_the_image_alone_and_marks_the_box():
    result = make_result([[10, 10, 40, 30]])
    before = result.image.copy()
    drawn = result.draw(2)
    assert np.array_equal(result.image, before) and drawn.shape == before.shape
    changed = (drawn != before).any(-1)
    assert changed[12:38 - 10, 10].mean() > 0.9 and not changed[36:, 50:].any()


@pytest.mark.parametrize(("box", "shape"), [
    ([-5, -5, 10.2, 8.0], (8, 11)), ([-9, 5, -3, 9], (4, 0)),
    ([55.5, 35.5, 99, 99], (5, 5)), ([3.2, 4.7, 3.4, 4.8], (1, 1)),
])
def test_crops_stay_within_the_borders(box, shape):
    assert crop_box(np.zeros((40, 60, 3), np.uint8), np.array(box)).shape[:2] == shape


EVERYTHING = {"save_txt": True, "save_json": True, "save_crop": True}


def test_everything_is_written_under_the_name_of_its_source(tmp_path):
    out = tmp_path / "out"
    two = {"boxes": [[1, 2, 30, 20], [5, 6, 50, 39.5]], "labels": [2, 0]}
    results = [make_result(path="in/a.png", **two), make_result([], path="in/b.tif"),
               make_result(path="in/c.jpeg", size=(150, 60), **two)]
    writer = ResultWriter(out, **EVERYTHING)
    assert not out.exists()
    with writer:
        for result in results:
            writer.write(result)
        assert not (out / "predictions.json").exists(), "named when complete"
    assert tree(out) == sorted([
        "a.png", "b.jpg", "c.jpg", "labels/a.txt", "labels/b.txt", "labels/c.txt",
        *(f"crops/{place}.jpg" for place in ("bus/a-1", "clock/a-2", "bus/c-1", "clock/c-2")),
        "predictions.json"])
    assert sorted(writer.paths) == sorted(out / name for name in tree(out))
    assert np.array_equal(read_image(out / "a.png"), results[0].draw())
    assert read_image(out / "c.jpg").shape == (150, 60, 3)
    assert read_image(out / "crops/bus/a-1.jpg").shape == (18, 29, 3)
    assert (out / "labels/b.txt").read_text() == ""
    assert json.loads((out / "predictions.json").read_text()) == [
        {"path": str(r.path), "frame": None, "width": r.size[1], "height": r.size[0],
         "detections": r.to_dicts()} for r in results]


@pytest.mark.parametrize("save_conf", [False, True])
def test_scores_are_in_the_label_files_only_when_asked_for(tmp_path, save_conf):
    result = make_result([[6, 4, 30, 24]], scores=[0.75])
    with ResultWriter(tmp_path, save=False, save_txt=True, save_conf=save_conf) as writer:
        writer.write(result)
    row = "0 0.300000 0.350000 0.400000 0.500000" + (" 0.750000" if save_conf else "")
    assert (tmp_path / "labels" / "a.txt").read_text() == row + "\n"


def test_sources_of_equal_stem_get_numbers(tmp_path):
    with ResultWriter(tmp_path, save_txt=True) as writer:
        for path in ("x/a.png", "y/a.jpg", "x/a-2.png", "z/A.png", "x/a.png"):
            writer.write(make_result([], path=path))
    assert tree(tmp_path) == sorted([
        "a.png", "a-2.jpg", "a-2-2.png", "A-3.png", "a-4.png", "labels/a.txt", "labels/a-2.txt",
        "labels/a-2-2.txt", "labels/A-3.txt", "labels/a-4.txt"])


def test_names_are_kept_apart_also_where_only_crops_are_written(tmp_path):
    with ResultWriter(tmp_path, save=False, save_crop=True) as writer:
        for path in ("x/a.png", "y/a.png", "x/a-2.png"):
            writer.write(make_result([[1, 2, 3, 4]], path=path))
    assert tree(tmp_path / "crops" / "clock") == ["a-1.jpg", "a-2-1.jpg", "a-2-2-1.jpg"]


def test_the_users_files_in_the_folder_are_never_replaced(tmp_path):
    """The sources lie in the output folder itself, beside labels, crops and JSON of the user."""
    mine = ("wide.png", "square.avi", "labels/tall.txt", "labels/clip_0.txt", "predictions.json",
            "crops/clock/wide-2-1.jpg")
    for name in mine:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    for _ in range(2):
        with ResultWriter(tmp_path, **EVERYTHING) as writer:
            for name in ("wide.png", "tall.jpg", "square.png"):
                writer.write(make_result([[1, 2, 30, 20]], path=tmp_path / name))
            writer.write(make_result([], path=tmp_path / "clip.mp4", frame=0))
        assert {(tmp_path / name).read_text() for name in mine} == {"mine"}
        assert all(path.exists() for path in writer.paths)
    assert {"wide-2.png", "wide-3.png", "tall-2.jpg", "square-2.png", "clip.mp4", "clip-2.mp4",
            "predictions-2.json", "predictions-3.json", "labels/tall-2.txt", "labels/clip_0-2.txt",
            "labels/clip-2_0.txt", "crops/clock/wide-2-1-2.jpg"} <= set(tree(tmp_path))
    assert not [name for name in tree(tmp_path) if ".part" in name]


def test_class_names_can_not_lead_out_of_the_folder(tmp_path):
    result = make_result([[0, 0, 9, 9]] * 4, labels=[0, 1, 2, 3])
    result = replace(result, class_names=("../up", "a/b", "..", "été 1"))
    out = tmp_path / "out"
    with ResultWriter(out, save=False, save_crop=True) as writer:
        writer.write(result)
    assert tree(tmp_path) == [
        "out/crops/_/a-3.jpg", "out/crops/_up/a-1.jpg", "out/crops/a_b/a-2.jpg",
        "out/crops/été 1/a-4.jpg"]


def test_a_video_becomes_one_video_of_the_same_length(tmp_path):
    source = VideoWriter(tmp_path / "clip", fps=10, size=(60, 80))
    for number in range(6):
        source.write(np.full((60, 80, 3), 40 * number, np.uint8))
    path = source.close()
    before = path.read_bytes()
    out = tmp_path / "out"
    with ResultWriter(out, save_txt=True, save_json=True) as writer:
        for frame in open_source([path, path], vid_stride=2):
            result = make_result([], path=frame.path, frame=frame.frame, fps=frame.fps)
            writer.write(replace(result, image=frame.image))
    numbers = (0, 2, 4)
    assert tree(out) == sorted([
        "clip.mp4", "clip-2.mp4", "predictions.json",
        *(f"labels/{name}_{k}.txt" for name in ("clip", "clip-2") for k in numbers)])
    for name in ("clip.mp4", "clip-2.mp4"):
        with VideoReader(out / name) as video:
            assert video.fps == 5
            brightness = [image.mean() for _, image in video.frames()]
        assert np.allclose(brightness, [0, 80, 160], atol=6)
    rows = json.loads((out / "predictions.json").read_text())
    assert [row["frame"] for row in rows] == [*numbers, *numbers]
    assert path.read_bytes() == before


def test_a_stream_that_changes_its_size_goes_on_in_a_new_video(tmp_path):
    with ResultWriter(tmp_path) as writer:
        for number, size in enumerate([(32, 32), (32, 32), (48, 32)]):
            writer.write(make_result([], size=size, path="cam", frame=number))
    assert tree(tmp_path) == ["cam-2.mp4", "cam.mp4"]


def test_an_interrupted_run_leaves_whole_files(tmp_path):
    with pytest.raises(KeyboardInterrupt), ResultWriter(tmp_path, save_json=True) as writer:
        writer.write(make_result([[1, 2, 3, 4]], path="clip.mp4", frame=0))
        raise KeyboardInterrupt
    assert tree(tmp_path) == ["clip.mp4", "predictions.json"]
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 1
    with VideoReader(tmp_path / "clip.mp4") as video:
        assert len(list(video.frames())) == 1


def test_nothing_asked_for_writes_nothing(tmp_path):
    with ResultWriter(tmp_path / "out", save=False) as writer:
        writer.write(make_result([[1, 2, 3, 4]]))
    assert not (tmp_path / "out").exists()
