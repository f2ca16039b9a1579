"""det predict with tile=: tiles joined to one result, whatever the source, file and size."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from exports import make_image, make_run, needs_onnx, run_export, save_checkpoint
from perfect import PerfectDetector, draw_rectangles
from rows import each
from yolodet import YOLO
from yolodet.cli import main
from yolodet.datasets.images import image as image_module
from yolodet.datasets.images.tiling import Tiling
from yolodet.detector.models.detector_like import ForwardOptions
from yolodet.detector.options.detect import DetectOptions
from yolodet.detector.predict import pipeline, writer
from yolodet.detector.predict.predictor import Predictor
from yolodet.detector.predict.sources import Frame
from yolodet.files.errors import InputError

TILING = Tiling(160, 0.2)
SIZE = (500, 730)
WORDS = {"device": "cpu", "conf": 0.2}


def predict(images, tiling=TILING, batch=1):
    detect, forward = DetectOptions(conf=0.25), ForwardOptions(torch.device("cpu"))
    model = PerfectDetector()
    found = Predictor(model, ("even", "odd"), 160, detect, forward, batch, tiling)
    frames = [Frame(image, Path(f"{number}.png")) for number, image in enumerate(images)]
    return list(found.stream(frames)), model


def scattered(rng, count):
    """Boxes of whole pixels that do not touch, small and large, over seams and corners."""
    kept = []
    while len(kept) < count:
        sides = rng.integers(6, 40, 2) if rng.random() < 0.8 else rng.integers(40, 250, 2)
        corner = rng.integers(0, np.array((SIZE[1], SIZE[0])) - sides)
        box = np.concatenate((corner, corner + sides))
        if all((box[:2] >= other[2:] + 3).any() or (box[2:] + 3 <= other[:2]).any()
               for other in kept):  # fmt: skip
            kept.append(box)
    return np.array(kept)


def sorted_rows(boxes):
    return np.array(sorted(np.asarray(boxes).round().astype(int).tolist()))


def test_every_object_is_found_once_with_its_whole_box():
    rng = np.random.default_rng(0)
    right = total = 0
    for _ in range(12):
        boxes = scattered(rng, 25)
        (result,), _ = predict([draw_rectangles(SIZE, boxes)], batch=7)
        found, true = sorted_rows(result.boxes.xyxy), sorted_rows(boxes)
        right += len({*map(tuple, found)} & {*map(tuple, true)}) - max(len(found) - len(true), 0)
        total += len(boxes)
        assert result.boxes.cls.tolist().count(0) == 13
    assert right >= 0.99 * total


def test_the_number_of_tiles_at_once_changes_nothing():
    rng = np.random.default_rng(1)
    images = [draw_rectangles(SIZE, scattered(rng, 12)), np.zeros((90, 70, 3), np.uint8)]
    images.append(draw_rectangles((161, 160), np.array([[100, 150, 120, 161]])))
    one, model = predict(images)
    many, _ = predict(images, batch=8)
    assert model.images == len(TILING.of(SIZE)) + 1 + 2
    assert [len(result) for result in one] == [12, 0, 1]
    for a, b in zip(one, many, strict=True):
        assert torch.equal(a.boxes.data, b.boxes.data)
    assert one[1].best_score == 0 and one[0].best_score is None
    assert set(one[0].speed) == {"preprocess", "inference", "postprocess"}


def test_an_image_that_fits_into_a_tile_is_seen_whole():
    image = draw_rectangles((120, 160), np.array([[5, 5, 50, 70], [60, 30, 90, 100]]))
    (tiled,), _ = predict([image])
    (whole,), _ = predict([image], tiling=None)
    assert torch.equal(tiled.boxes.data, whole.boxes.data) and len(whole) == 2


def in_tiles(model, image, tile):
    """Boxes in a tile as a model finds them in that part of the image alone."""
    x0, y0, x1, y1 = tile
    part = np.ascontiguousarray(image[y0:y1, x0:x1, ::-1])
    found = model.predict(part, tile=0, **WORDS)[0].boxes.data.clone()
    found[:, :4] += torch.tensor((x0, y0, x0, y0))
    return found


@needs_onnx
@pytest.mark.parametrize("word", ["best.safetensors", "best.onnx"])
def test_checkpoints_and_exported_files_look_at_tiles(word, tmp_path, monkeypatch):
    folder = make_run(tmp_path, monkeypatch)
    if word.endswith("onnx"):
        run_export(folder, format="onnx")
    model, image = YOLO(folder / word, verbose=False), make_image((150, 210), 3)
    (result,) = model.predict(image, tile=96, overlap=0.1, rgb=True, **WORDS)
    parts = torch.cat([in_tiles(model, image, tile) for tile in Tiling(96, 0.1).of((150, 210))])
    inner = parts[parts[:, 4] >= result.boxes.conf.min()]
    assert 3 < len(result) <= len(inner)
    alike = (result.boxes.data[:, None, 4:] - inner[None, :, 4:]).abs().amax(-1) < 1e-3
    assert alike.any(1).all()  # every score and class is that of a tile


def test_the_command_writes_files_and_a_checkpoint_keeps_its_tiles(tmp_path, monkeypatch, capsys):
    folder = make_run(tmp_path, monkeypatch)
    path = tmp_path / "wide.png"
    assert cv2.imwrite(str(path), make_image((150, 210), 3))
    typed = ["predict", str(path), "conf=0.2", "device=cpu", "save_txt=True", "save_json=True"]
    assert main([*typed, "tile=96", "name=typed"]) == 0
    assert "tile=96 overlap=0.2" in capsys.readouterr().err
    assert main([*typed, "name=whole"]) == 0
    save_checkpoint(folder, config={"tile": 96, "overlap": None})
    assert main([*typed, "name=kept"]) == 0
    assert main([*typed, "name=off", "tile=0"]) == 0
    rows = {name: (tmp_path / "runs" / name / "labels" / "wide.txt").read_text()
            for name in ("typed", "whole", "kept", "off")}  # fmt: skip
    assert rows["typed"] == rows["kept"] != rows["whole"] == rows["off"]
    capsys.readouterr()
    assert main([*typed, "tile=20"]) == 2
    assert "tile=20: a tile has at least 64 pixels" in capsys.readouterr().err


def test_frames_of_videos_are_seen_in_tiles(tmp_path, monkeypatch):
    folder = make_run(tmp_path, monkeypatch)
    model = YOLO(folder / "best.safetensors", verbose=False)
    frames = [make_image((150, 210), seed) for seed in (3, 4)]
    one = [model.predict(frame, tile=96, **WORDS)[0].boxes.data for frame in frames]
    video = tmp_path / "two.avi"
    made = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"FFV1"), 25, (210, 150))
    for frame in frames:
        made.write(frame)
    made.release()
    for result, boxes in zip(model.stream(video, tile=96, **WORDS), one, strict=True):
        assert result.frame is not None and abs(len(result) - len(boxes)) <= 2


@pytest.fixture
def giant(tmp_path, monkeypatch):
    """An image of more pixels than are decoded without tiles."""
    monkeypatch.setattr(image_module, "MOST_PIXELS", 20_000)
    monkeypatch.setattr(pipeline, "MOST_PIXELS", 20_000)
    monkeypatch.setattr(writer, "MOST_PIXELS", 20_000)
    monkeypatch.setattr(writer, "DRAWN_SIDE", 105)
    make_run(tmp_path, monkeypatch)
    assert cv2.imwrite(str(tmp_path / "giant.png"), make_image((150, 210), 3))
    return tmp_path / "giant.png"


def test_a_giant_image_is_taken_in_tiles_and_drawn_smaller(giant, capsys):
    assert main(["predict", str(giant), "device=cpu", "tile=0"]) == 2
    said = capsys.readouterr().err
    assert "210 x 150 pixels are more than det decodes (20,000)" in said and "tile=640" in said
    assert main(["predict", str(giant), "device=cpu", "tile=96", "save_txt=True"]) == 0
    drawn = cv2.imread(str(giant.parent / "runs" / "predict" / "giant.png"))
    assert drawn.shape == (75, 105, 3)
    (result,) = YOLO("runs/train", verbose=False).predict(giant, tile=96, **WORDS)
    assert result.orig_shape == (150, 210) and result.boxes.xyxy[:, 2].max() > 150
    small = result.scaled_to(105)
    assert torch.allclose(small.boxes.xyxy * 2, result.boxes.xyxy) and small.to_rows()


def test_a_giant_tiff_is_read_where_it_is_looked_at(giant, monkeypatch):
    """Not decoded, so it needs no memory of its size; boxes, picture and crops are the same."""
    assert cv2.imwrite("a.tif", cv2.imread(str(giant)), [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    (wanted,) = YOLO("runs/train", verbose=False).predict(giant, tile=96, **WORDS)
    monkeypatch.setattr(image_module, "available_memory", lambda: 1_000)
    monkeypatch.setattr(image_module, "_read", lambda *_: pytest.fail("decoded"))
    words = ["device=cpu", "conf=0.2", "tile=96", "save_crop=True", "name=mapped"]
    assert main(["predict", "a.tif", *words]) == 0
    assert cv2.imread("runs/mapped/a.jpg").shape == (75, 105, 3)
    (found,) = YOLO("runs/train", verbose=False).predict("a.tif", tile=96, **WORDS)
    assert torch.equal(found.boxes.data, wanted.boxes.data)
    assert len(list(Path("runs/mapped/crops").rglob("*.jpg"))) == len(found)


@each("free", [1_000, 10**9])
def test_a_giant_image_must_fit_into_the_free_memory(free, giant, monkeypatch):
    monkeypatch.setattr(image_module, "available_memory", lambda: free)
    model = YOLO("runs/train", verbose=False)
    if free > 10**6:
        assert model.predict(giant, tile=96, **WORDS)
        return
    with pytest.raises(InputError, match=r"take 0\.0 GB of memory, and 0\.0 GB are free"):
        model.predict(giant, tile=96, **WORDS)


def test_the_colors_of_a_large_image_change_in_place(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    expected = image[:, :, ::-1].copy()
    assert np.array_equal(image_module._as_rgb(image.copy()), expected)
    monkeypatch.setattr(image_module, "STRIP", 200)
    assert np.array_equal(image_module._as_rgb(image), expected)
    assert np.array_equal(image, expected)
