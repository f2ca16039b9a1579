"""Calls that Ultralytics documents for Python: each runs and gives what scripts go on with."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from exports import make_image, make_run, write_data
from PIL import Image
from tiny import use_tiny_detector
from yolodet import YOLO
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.parse import parse
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.predict.sources import SourceError
from yolodet.detector.run.log import Log
from yolodet.detector.train.assemble import load_data

CALLS = """
model.names[0] == "clock"
model.task == "detect"
model.device.type in ("cpu", "cuda", "mps")
isinstance(model.model, torch.nn.Module)
model.ckpt_path.endswith("best.safetensors")
len(model.info(verbose=False)) == 4
model.to("cpu") is model
model.cpu() is model
model.fuse() is model
model.eval() is model
model.float() is model
"best.safetensors" in repr(model)
len(model(image, conf=0.2)) == 1
len(model.predict(source="images", conf=0.2)) == 8
len(model.predict("images/*.png")) == 8
len(model(Path("images/0.png"))) == 1
len(model(["images/0.png", "images/1.png"])) == 2
len(model([image, Image.fromarray(image), "images/0.png"])) == 3
len(model(Image.fromarray(image))) == 1
len(model(torch.zeros(2, 3, 96, 96))) == 2
len(model(image[:, :, 0])) == 1
len(model(np.dstack([image, image[:, :, 0]]))) == 1
len(model(image.astype(np.float32) / 255)) == 1
len(model(each for each in [image, image, image])) == 3
len(model("list.txt")) == 2
len(model("list.csv")) == 2
len(model("video.mp4", vid_stride=2)) == 3
isinstance(model(image, stream=True), Iterator)
len(model(image, classes=[0], device="cpu", imgsz=64, max_det=2, half=False, augment=False)) == 1
len(model(image, imgsz=(64, 96), conf=np.float32(0.2), verbose=False, agnostic_nms=False)) == 1
len(model(image, device=torch.device("cpu"), save=False, show=False, visualize=False)) == 1
len(result) == len(result.boxes) > 0
result.boxes.xyxy.shape == (len(result), 4)
result.boxes.xywh.shape == (len(result), 4)
float(result.boxes.xyxyn.max()) <= 1
float(result.boxes.xywhn.max()) <= 1
result.boxes.conf.shape == result.boxes.cls.shape == (len(result),)
result.boxes.id is None
result.boxes.is_track is False
result.boxes.data.shape[1] == 6
int(result.boxes.cls[0]) in result.names
[int(box.cls) for box in result.boxes] == result.boxes.cls.int().tolist()
result.boxes[0].xyxy[0].tolist() == result.boxes.xyxy[0].tolist()
len(result[result.boxes.conf > 2]) == 0
isinstance(result.boxes.numpy().xyxy, np.ndarray)
isinstance(result.cpu().numpy().boxes.conf, np.ndarray)
result.boxes.cpu().xyxy.device.type == "cpu"
result.orig_shape == (50, 90)
result.orig_img.shape == (50, 90, 3)
isinstance(result.path, str)
set(result.speed) == {"preprocess", "inference", "postprocess"}
result.plot().shape == (50, 90, 3)
isinstance(result.plot(pil=True), Image.Image)
result.plot(conf=False, labels=False, boxes=False, line_width=2).shape == (50, 90, 3)
Path(result.save(filename="drawn.jpg")).exists()
Path(result.save_txt("found.txt", save_conf=True)).exists()
result.save_crop("crops") is None
result.summary()[0].keys() == {"name", "class", "confidence", "box"}
json.loads(result.to_json())[0]["name"] in result.names.values()
result.to_csv().count(chr(10)) >= len(result)
"clock" in result.verbose() or result.verbose()
result.masks is result.keypoints is result.probs is result.obb is None
0 <= metrics.box.map <= metrics.box.map50 <= 1
metrics.box.map75 >= 0
len(metrics.box.maps) == 3
metrics.box.mp >= 0 and metrics.box.mr >= 0
"metrics/mAP50-95(B)" in metrics.results_dict
metrics.fitness == metrics.box.map
metrics.confusion_matrix.matrix.shape == (4, 4)
set(metrics.speed) == {"preprocess", "inference", "postprocess"}
metrics.names[0] == "clock"
metrics.save_dir.is_dir()
metrics.summary()[0]["Class"] == "clock"
len(metrics.box.class_result(0)) == 4
Path(model.save("copy.safetensors")).exists()
YOLO("copy.safetensors", task="detect", verbose=False).names == model.names
model.add_callback("on_val_end", print) is None
model.clear_callback("on_val_end") is None
model.reset_callbacks() is None
""".strip().splitlines()


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the calls may name: a model, an image, a result and metrics, in a folder of files."""
    folder = tmp_path_factory.mktemp("python")
    with pytest.MonkeyPatch.context() as patch:
        weights = make_run(folder, patch)
        data = write_data(folder)
        (folder / "list.txt").write_text("images/0.png\nimages/1.png\n")
        (folder / "list.csv").write_text("images/0.png\nimages/1.png\n")
        video = cv2.VideoWriter("video.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 5, (96, 96))
        for seed in range(6):
            video.write(make_image((96, 96), seed))
        video.release()
        model = YOLO(weights / "best.safetensors", verbose=False).cpu()
        image = make_image((50, 90), 3)
        metrics = model.val(data=str(data), workers=0, plots=False)
        yield {
            "model": model, "image": image, "metrics": metrics, "YOLO": YOLO,
            "result": model(image, conf=0.2)[0], "np": np, "torch": torch, "Path": Path,
            "Image": Image, "Iterator": Iterator, "json": json,
        }  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_a_documented_call_gives_what_scripts_go_on_with(names: dict[str, Any], call: str) -> None:
    assert eval(call, dict(names))


def test_a_source_that_fails_in_the_middle_is_skipped_or_stops(
    names: dict[str, Any], capsys
) -> None:
    model = names["model"]
    Path("broken.png").write_bytes(b"\x89PNG")
    sources = ["images/0.png", "broken.png", "images/1.png"]
    assert len(model(sources)) == len(model(iter(sources))) == 2
    assert "skipped: broken.png" in capsys.readouterr().err
    for each in (sources, iter(sources)):
        with pytest.raises(SourceError, match="broken"):
            model(each, strict=True)


def test_unknown_events_say_what_to_do_instead(names: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="did you mean 'on_train_end'"):
        names["model"].add_callback("on_training_end", print)


def test_callbacks_hear_of_a_training_in_their_order_and_may_end_it(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    use_tiny_detector(monkeypatch)
    heard: list[str] = []
    model = YOLO("yolo26n.yaml", verbose=False)
    events = ("on_train_start", "on_train_epoch_start", "on_train_epoch_end", "on_fit_epoch_end",
              "on_train_end", "on_model_save")  # fmt: skip
    for event in events:
        model.add_callback(event, lambda trainer, event=event: heard.append(event))

    def stops(trainer: SimpleNamespace) -> None:
        assert trainer.metrics["metrics/mAP50-95(B)"] == trainer.fitness
        assert trainer.epoch == 0 and trainer.args.epochs == 3 and trainer.tloss["box"] > 0
        trainer.stop = True

    model.add_callback("on_fit_epoch_end", stops)
    results = model.train(
        data=str(squares), epochs=3, imgsz=64, batch=8, device="cpu", workers=0, plots=False,
        amp=False,
    )  # fmt: skip
    assert [event for event in heard if event != "on_model_save"] == list(events[:-1])
    assert "on_model_save" in heard and results["epochs"] == 1


def test_callbacks_may_change_what_prediction_passes_on(names: dict[str, Any]) -> None:
    model = YOLO(names["model"].ckpt_path, verbose=False)
    model.add_callback("on_predict_postprocess_end", lambda p: p.results.__setitem__(
        0, p.results[0][:1]
    ))  # fmt: skip
    assert len(model(names["image"], conf=0.2)[0]) == 1


def test_only_some_classes_are_measured_and_trained_on(names: dict[str, Any]) -> None:
    measured = names["model"].val(data="data.yaml", classes=[0, 2], workers=0, plots=False)
    per_class = measured["metrics"]["per_class"]
    assert [row["name"] for row in per_class if row["boxes"]] == ["clock", "bus & tram"]
    whole = names["metrics"]["metrics"]["per_class"]
    assert per_class[0]["boxes"] == whole[0]["boxes"] and per_class[0]["ap"] == whole[0]["ap"]
    config, _ = parse(TrainConfig, {"data": "data.yaml", "classes": "kite"})
    _, scans = load_data(config, Log(verbose=False))
    labels = [label for scan in scans for record in scan.records for label in record.labels]
    assert labels and set(labels) == {1}
    with pytest.raises(UsageError, match="unknown class 'boat'"):
        names["model"].val(data="data.yaml", classes="boat")


def test_what_is_drawn_and_frames_are_chosen_by_options(names: dict[str, Any]) -> None:
    words = {"conf": 0.2, "save": True, "verbose": False, "exist_ok": True}
    names["model"]("video.mp4", name="frames", save_frames=True, **words)
    assert len(list(Path("runs/frames/video_frames").glob("*.jpg"))) == 6
    pictures = {}
    for option in ("show_boxes", "show_labels", "show_conf", "save"):
        names["model"]("images/0.png", name=option, **{**words, option: option == "save"})
        pictures[option] = cv2.imread(f"runs/{option}/0.png")
    assert (pictures["show_boxes"] == cv2.imread("images/0.png")).all()
    assert not (pictures["show_labels"] == pictures["save"]).all()
    assert not (pictures["show_conf"] == pictures["save"]).all()


def test_a_window_needs_a_display(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="show=True needs a display"):
        names["model"]("images/0.png", show=True)
