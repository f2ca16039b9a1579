"""Results: in words, JSON, label rows and pictures; and a writer that keeps to its folder."""

import json
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rows import each
from yolodet.datasets.formats.yolo import read_labels
from yolodet.datasets.images.image import read_image
from yolodet.detector.commands.show import show_predictions
from yolodet.detector.evaluate.postprocess import Detections
from yolodet.detector.predict.boxes import Boxes
from yolodet.detector.predict.images import crop_box
from yolodet.detector.predict.results import Results
from yolodet.detector.predict.sources import Frame, open_source
from yolodet.detector.predict.video import VideoReader, VideoWriter
from yolodet.detector.predict.writer import Outputs, ResultWriter
from yolodet.files.errors import DetError

NAMES = {0: "clock", 1: "kite", 2: "bus"}


def make_result(boxes, labels=None, scores=None, size=(40, 60), path="a.png", frame=None):
    rng = np.random.default_rng(1)
    boxes = torch.as_tensor(np.array(boxes, np.float32).reshape(-1, 4))
    labels = torch.as_tensor(np.array([0] * len(boxes) if labels is None else labels, np.int64))
    scores = np.array([0.5] * len(boxes) if scores is None else scores, np.float32)
    found = Detections(boxes, torch.as_tensor(scores), labels)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    speed = {"preprocess": 1.0, "inference": 10.0, "postprocess": 1.34}
    return Results(Frame(image, Path(path), frame), found, NAMES, speed)


def tree(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_what_was_found_in_words():
    result = make_result([[0, 0, 9, 9]] * 6, labels=[1, 0, 2, 0, 2, 0])
    assert result.verbose() == "3 clocks, 1 kite, 2 buses"
    assert result.line() == "60x40 3 clocks, 1 kite, 2 buses 12.3 ms"
    assert repr(make_result([])) == "Results(a.png: 60x40 no detections 12.3 ms)"
    result.names = {0: "glass", 1: "scissors", 2: "person"}
    assert result.verbose() == "3 glasses, 1 scissors, 2 persons"


def test_an_image_without_a_detection_says_how_near_it_came():
    result = make_result([])
    result.best_score = 0.0083
    assert result.line() == "60x40 no detections (best score 0.008) 12.3 ms"


@pytest.mark.parametrize(("best", "advice"), [
    (0.24, "the best score was 0.240, try conf=0.2"),
    (0.0083, "the best score was 0.008, try conf=0.005"),
    (0.0004, "the best score was 0.000, this model finds nothing here"),
])
def test_where_nothing_was_found_a_confidence_to_try_is_said(best, advice):
    ran = {"folder": "runs/predict", "images": 2, "conf": 0.25, "file": None}
    text = show_predictions({**ran, "detections": 0, "best_score": best})
    assert text.splitlines()[0] == f"nothing above 0.25; {advice}"
    text = show_predictions({**ran, "detections": 1, "best_score": None, "file": "a.jpg"})
    assert text.splitlines()[:2] == ["2 images, 1 detection", f"picture: {Path('a.jpg').resolve()}"]


def test_summary_as_json_csv_and_rows():
    result = make_result([[1.5, 2, 30.25, 40]], labels=[1], scores=[0.123456789])
    box = {"x1": 1.5, "y1": 2.0, "x2": 30.25, "y2": 40.0}
    row = {"name": "kite", "class": 1, "confidence": 0.12346, "box": box}
    assert result.summary() == json.loads(result.to_json()) == [row]
    assert result.summary(decimals=None) == [{**row, "confidence": 0.12345679}]
    (relative,) = result.summary(normalize=True)
    assert relative["box"] == {"x1": 0.025, "y1": 0.05, "x2": 0.50417, "y2": 1.0}
    assert result.to_csv() == (
        "name,class,confidence,x1,y1,x2,y2\nkite,1,0.12346,1.5,2.0,30.25,40.0\n")
    assert make_result([]).to_csv() == "" and make_result([]).summary() == []


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_data_frames_are_made_by_what_is_installed(monkeypatch, package):
    result = make_result([[1.5, 2, 30.25, 40]], labels=[1])
    made = SimpleNamespace(DataFrame=lambda rows: (package, rows))
    for name in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, made if name == package else None)
    name, rows = result.to_df()
    assert name == package and list(rows[0])[3:] == ["x1", "y1", "x2", "y2"]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DetError, match="pip install pandas"):
        result.to_df()


def test_boxes_in_every_form():
    result = make_result([[6, 4, 30, 24], [0, 0, 60, 40]], labels=[2, 0], scores=[0.75, 0.5])
    boxes = result.boxes
    assert boxes.shape == (2, 6) and len(boxes) == 2 and boxes.orig_shape == (40, 60)
    assert boxes.data[0].tolist() == [6, 4, 30, 24, 0.75, 2]
    assert boxes.conf.tolist() == [0.75, 0.5] and boxes.cls.tolist() == [2, 0]
    assert boxes.xywh.tolist() == [[18, 14, 24, 20], [30, 20, 60, 40]]
    for form in (boxes, boxes.cpu(), boxes.to("cpu", torch.float64), boxes.numpy(),
                 boxes.numpy().numpy(), boxes.numpy().to("cpu"), result.numpy().cpu().boxes):
        assert np.allclose(form.xyxyn, [[0.1, 0.1, 0.5, 0.6], [0, 0, 1, 1]])
        assert np.allclose(form.xywhn, [[0.3, 0.35, 0.4, 0.5], [0.5, 0.5, 1, 1]])
    assert boxes.xyxy[0].tolist() == [6, 4, 30, 24], "normalizing changes a copy"
    assert boxes.id is None and not boxes.is_track
    tracks = Boxes(torch.tensor([1.0, 2, 3, 4, 7, 0.5, 1]), (9, 9))
    assert (tracks.id.item(), tracks.conf.item(), tracks.cls.item()) == (7, 0.5, 1)
    with pytest.raises(ValueError, match=r"shape \[3, 5\], expected"):
        Boxes(torch.zeros(3, 5), (9, 9))


@each(("index", "kept"), [
    (1, [1]), (-1, [2]), (slice(1, None), [1, 2]), ([2, 0], [2, 0]),
    (torch.tensor([True, False, True]), [0, 2]), (np.array([False, True, False]), [1]),
])
def test_results_and_boxes_are_indexed_alike(index, kept):
    result = make_result([[0, 0, n, n] for n in (1, 2, 3)], labels=[0, 1, 2])
    part = result[index]
    assert part.boxes.cls.tolist() == result.boxes[index].cls.tolist() == kept
    assert (len(part), part.path, len(result)) == (len(kept), "a.png", 3)


def test_iteration_gives_one_box_at_a_time():
    result = make_result([[0, 0, n, n] for n in (1, 2, 3)], labels=[0, 1, 2])
    assert [int(box.cls) for box in result.boxes] == [0, 1, 2]
    assert [each.verbose() for each in result] == ["1 clock", "1 kite", "1 bus"]
    assert not make_result([]) and list(make_result([])) == []


def test_images_are_bgr_for_opencv():
    result = make_result([[10, 10, 40, 30]])
    assert np.array_equal(result.orig_img[:, :, ::-1], result.image)
    assert np.array_equal(result.plot(line_width=2)[:, :, ::-1], result.draw(2))
    assert np.array_equal(np.asarray(result.plot(pil=True)), result.draw())
    assert np.array_equal(result.plot(boxes=False), result.orig_img)
    bare = result.plot(conf=False, labels=False)
    assert (bare != result.orig_img).any() and not np.array_equal(bare, result.plot())


def test_files_of_one_result(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = make_result([[6, 4, 30, 24], [0, 0, 60, 40]], labels=[2, 0])
    assert result.save("out.png") == "out.png" and result.save() == "results_a.jpg"
    assert np.array_equal(read_image(Path("out.png")), result.draw())
    for _ in range(2):
        result.save_txt("labels/a.txt", save_conf=True)
        result.save_crop("crops", "a.png")
    assert Path("labels/a.txt").read_text().splitlines() == 2 * result.to_rows(with_scores=True)
    assert tree(tmp_path / "crops") == [
        "bus/a-2.jpg", "bus/a.jpg", "clock/a-2.jpg", "clock/a.jpg"]
    assert read_image(Path("crops/bus/a.jpg")).shape == (20, 24, 3)
    with pytest.raises(OSError, match=r"cannot be written as \.xyz"):
        result.save("out.xyz")


def test_show_opens_the_viewer_of_the_system(monkeypatch):
    shown = []
    monkeypatch.setattr("PIL.Image.Image.show", lambda image: shown.append(np.asarray(image)))
    result = make_result([[6, 4, 30, 24]])
    result.show()
    assert np.array_equal(shown[0], result.draw())


def test_nothing_is_computed_before_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch, "cat", lambda *_: pytest.fail("boxes were joined"))
    monkeypatch.setattr("cv2.cvtColor", lambda *_: pytest.fail("the image was converted"))
    make_result([[6, 4, 30, 24]])


def test_results_can_be_pickled():
    result = make_result([[6, 4, 30, 24]])
    again = pickle.loads(pickle.dumps(result))
    assert torch.equal(again.boxes.data, result.boxes.data) and again.path == "a.png"


def test_json_holds_the_float32_numbers_to_the_bit():
    rng = np.random.default_rng(0)
    boxes = (rng.random((200, 4)) * 2000).astype(np.float32)
    scores = rng.random(200, np.float32) ** 8
    rows = json.loads(make_result(boxes, scores=scores).to_json(decimals=None))
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
    with ResultWriter(tmp_path, Outputs(save=False, save_txt=True)) as writer:
        writer.write(result)
    back, ids, findings = read_labels(tmp_path / "labels" / "a.txt", size=size, num_classes=3)[:3]
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


@each(("box", "shape"), [
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
    writer = ResultWriter(out, Outputs(**EVERYTHING))
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
        {"path": r.path, "frame": None, "width": r.orig_shape[1], "height": r.orig_shape[0],
         "detections": r.summary(decimals=None)} for r in results]


@pytest.mark.parametrize("save_conf", [False, True])
def test_scores_are_in_the_label_files_only_when_asked_for(tmp_path, save_conf):
    result = make_result([[6, 4, 30, 24]], scores=[0.75])
    with ResultWriter(tmp_path, Outputs(save=False, save_txt=True, save_conf=save_conf)) as writer:
        writer.write(result)
    row = "0 0.300000 0.350000 0.400000 0.500000" + (" 0.750000" if save_conf else "")
    assert (tmp_path / "labels" / "a.txt").read_text() == row + "\n"


def test_sources_of_equal_stem_get_numbers(tmp_path):
    with ResultWriter(tmp_path, Outputs(save_txt=True)) as writer:
        for path in ("x/a.png", "y/a.jpg", "x/a-2.png", "z/A.png", "x/a.png"):
            writer.write(make_result([], path=path))
    assert tree(tmp_path) == sorted([
        "a.png", "a-2.jpg", "a-2-2.png", "A-3.png", "a-4.png", "labels/a.txt", "labels/a-2.txt",
        "labels/a-2-2.txt", "labels/A-3.txt", "labels/a-4.txt"])


def test_names_are_kept_apart_also_where_only_crops_are_written(tmp_path):
    with ResultWriter(tmp_path, Outputs(save=False, save_crop=True)) as writer:
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
        with ResultWriter(tmp_path, Outputs(**EVERYTHING)) as writer:
            for name in ("wide.png", "tall.jpg", "square.png"):
                writer.write(make_result([[1, 2, 30, 20]], path=tmp_path / name))
            writer.write(make_result([], path=tmp_path / "clip.mp4", frame=0))
        assert {(tmp_path / name).read_text() for name in mine} == {"mine"}
        assert all(path.exists() for path in writer.paths)
    assert {"wide-2.png", "wide-3.png", "tall-2.jpg", "square-2.png", "clip.mp4", "clip-2.mp4",
            "predictions-2.json", "predictions-3.json", "labels/tall-2.txt", "labels/clip_0-2.txt",
            "labels/clip-2_0.txt", "crops/clock/wide-2-1-2.jpg"} <= set(tree(tmp_path))
    assert not [name for name in tree(tmp_path) if ".part" in name]


def test_class_names_cannot_lead_out_of_the_folder(tmp_path):
    result = make_result([[0, 0, 9, 9]] * 4, labels=[0, 1, 2, 3])
    result.names = dict(enumerate(("../up", "a/b", "..", "été 1")))
    out = tmp_path / "out"
    with ResultWriter(out, Outputs(save=False, save_crop=True)) as writer:
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
    with ResultWriter(out, Outputs(save_txt=True, save_json=True)) as writer:
        for frame in open_source([path, path], vid_stride=2):
            result = make_result([])
            result.source = frame
            writer.write(result)
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
    with ResultWriter(tmp_path, Outputs()) as writer:
        for number, size in enumerate([(32, 32), (32, 32), (48, 32)]):
            writer.write(make_result([], size=size, path="cam", frame=number))
    assert tree(tmp_path) == ["cam-2.mp4", "cam.mp4"]


def test_an_interrupted_run_leaves_whole_files(tmp_path):
    outputs = Outputs(save_json=True)
    with pytest.raises(KeyboardInterrupt), ResultWriter(tmp_path, outputs) as writer:
        writer.write(make_result([[1, 2, 3, 4]], path="clip.mp4", frame=0))
        raise KeyboardInterrupt
    assert tree(tmp_path) == ["clip.mp4", "predictions.json"]
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 1
    with VideoReader(tmp_path / "clip.mp4") as video:
        assert len(list(video.frames())) == 1


def test_nothing_asked_for_writes_nothing(tmp_path):
    with ResultWriter(tmp_path / "out", Outputs(save=False)) as writer:
        writer.write(make_result([[1, 2, 3, 4]]))
    assert not (tmp_path / "out").exists()
