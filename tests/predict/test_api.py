"""YOLO in Python: names and files, options, results of runs, one model in many threads."""

from __future__ import annotations

import copy
import math
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import (
    CLASS_NAMES,
    lively_detector,
    make_image,
    make_meta,
    make_run,
    write_data,
)
from rows import each
from tiny import use_tiny_detector, write_squares
from yolodet import YOLO
from yolodet.detector.checkpoints import load
from yolodet.detector.options.errors import UsageError
from yolodet.files.errors import InputError
from yolodet.weights.checkpoint import read_meta, save_weights

WORDS = {"device": "cpu", "conf": 0.2}


@pytest.fixture
def best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of three classes in runs/train/weights below the current folder."""
    return make_run(tmp_path, monkeypatch) / "best.safetensors"


@pytest.fixture
def image() -> np.ndarray:
    return make_image((50, 90), 3)


def boxes(results) -> torch.Tensor:
    (result,) = results
    assert len(result) > 3
    return result.boxes.data


# ---------------------------------------------------------------- what a name means


def test_a_checkpoint_says_what_it_is(best: Path) -> None:
    model = YOLO("runs/train/weights/best.safetensors", verbose=False)
    assert model.names == dict(enumerate(CLASS_NAMES)) and model.task == "detect"
    assert model.ckpt_path == str(best) and str(best) in repr(model)
    layers, parameters, gradients, gflops = model.info()
    assert parameters == sum(p.numel() for p in lively_detector().parameters()) == gradients
    assert layers > 20 and 0 < gflops < 1
    assert isinstance(model.model, torch.nn.Module)


@pytest.mark.parametrize("name", ["yolo26n", "yolo26n.pt", "yolo26n.yaml"])
def test_a_name_without_weights_can_only_be_trained(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    use_tiny_detector(monkeypatch)
    model = YOLO(name, verbose=False)
    assert repr(model) == "YOLO('yolo26n')" and len(model.names) == 80
    for call in (model.val, lambda: model.predict(np.zeros((9, 9, 3), np.uint8)), model.export):
        with pytest.raises(UsageError, match="yolo26n has not been trained"):
            call()
    with pytest.raises(UsageError, match="nothing to save"):
        model.save("x.safetensors")


def test_a_name_of_the_zoo_with_pt_is_the_zoo_weights() -> None:
    assert YOLO("yolov9s.pt").name == "yolov9s" and YOLO("yolox_nano.pt")._warning == ""


def test_weights_of_the_zoo_are_read_when_they_are_needed(
    best: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(load, "obtain", lambda name, **_: asked.append(name) or best)
    model = YOLO("yolov9s.pt", verbose=False)
    assert asked == [] and model.ckpt_path is None
    assert model.names == dict(enumerate(CLASS_NAMES)) and asked == ["yolov9s"]
    assert len(boxes(model(image, **WORDS))) > 3 and asked == ["yolov9s"]


@each("name", ["nonsense.pt", "nonsense", "gone.onnx", "in/yolo26n.pt", "."])
def test_nonsense_fails_where_it_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no such file|expected one of|is a folder"):
        YOLO(name)


def test_another_task_is_refused() -> None:
    with pytest.raises(UsageError, match="task=segment: det has one task, detect"):
        YOLO("yolo26n", "segment")
    assert YOLO("yolo26n", task="detect").task == "detect"


def test_the_seed_example_trains_from_scratch_after_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_squares(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    use_tiny_detector(monkeypatch)
    model = YOLO("yolo26n.pt", verbose=False)
    assert capsys.readouterr().err == ""
    results = model.train(
        data=str(data), epochs=1, imgsz=64, amp=True, device=torch.device("cpu"), workers=0,
        plots=False, batch=np.int64(4),
    )  # fmt: skip
    said = capsys.readouterr().err
    assert "WARNING" in said and "training starts FROM SCRATCH" in said
    assert "yolox_nano or yolov9s" in said
    assert "FROM SCRATCH" in (Path(results["folder"]) / "log.txt").read_text()
    assert read_meta(Path(results["best"])).provenance == "trained from scratch"
    assert model.names == {0: "square"} and model.ckpt_path == str(Path(results["best"]).absolute())
    assert model.val(verbose=False, workers=0, plots=False).box.map == results.box.map
    assert isinstance(model("data/images/val", verbose=False), list)


# ---------------------------------------------------------------- loaded once


def test_the_file_is_read_once(
    best: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    restore = load.restore
    monkeypatch.setattr(load, "restore", lambda path: read.append(path) or restore(path))
    model = YOLO(best, verbose=False)
    first = boxes(model(image, **WORDS))
    assert torch.equal(first, boxes(model.predict(image, **WORDS))) and read == [best]


def test_a_replaced_file_and_another_folder_change_no_answer(
    best: Path, image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = YOLO("runs/train/weights/best.safetensors", verbose=False)
    other = copy.deepcopy(lively_detector())
    with torch.no_grad():
        next(other.parameters()).mul_(2)
    save_weights(best, other.state_dict(), make_meta(class_names=("x", "y", "z")))
    expected = boxes(YOLO(best, verbose=False)(image, **WORDS))
    monkeypatch.chdir(tmp_path.parent)
    before = boxes(model(image, **WORDS))
    assert model.names[0] == "clock" and not torch.equal(before, expected)
    os.remove(best)
    assert torch.equal(before, boxes(model(image, **WORDS)))



def test_an_option_without_effect_is_said_once(best: Path, image: np.ndarray, capsys) -> None:
    model = YOLO(best, verbose=False)
    for _ in range(3):
        model(image, iou=0.5, stream_buffer=True, **WORDS)
    said = capsys.readouterr().err
    assert said.count("iou=0.5 has no effect on the NMS-free head") == 1
    assert said.count("stream_buffer= has no effect") == 1


def test_many_threads_find_what_one_finds(best: Path) -> None:
    model = YOLO(best, verbose=False)
    images = [make_image((50, 90), seed) for seed in range(12)]
    expected = [boxes(model(image, **WORDS)) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: boxes(model(image, **WORDS)), images))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_model_can_be_pickled_without_its_file(best: Path, image: np.ndarray) -> None:
    model = YOLO(best, verbose=False)
    packed = pickle.dumps(model)
    best.unlink()
    again = pickle.loads(packed)
    assert torch.equal(boxes(model(image, **WORDS)), boxes(again(image, **WORDS)))
    assert again.names == model.names


# ---------------------------------------------------------------- options and sources


def test_options_of_numpy_torch_and_lists(best: Path, image: np.ndarray) -> None:
    model = YOLO(best, verbose=False).cpu()
    usual = boxes(model(image, conf=0.2, imgsz=96))
    for words in (
        {"imgsz": (96, 96), "conf": np.float64(0.2)}, {"imgsz": [96], "conf": torch.tensor(0.2)},
        {"imgsz": np.int32(96), "conf": "0.2", "device": torch.device("cpu")},
    ):  # fmt: skip
        assert torch.equal(boxes(model(image, **words)), usual)
    assert model.device == torch.device("cpu")
    with pytest.raises(InputError, match="device"):
        model.to("cuda:99")


def test_arrays_are_bgr_unless_rgb_is_said(best: Path, image: np.ndarray) -> None:
    model = YOLO(best, verbose=False)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    same = [model(image, rgb=True, **WORDS), model(image[:, :, ::-1], **WORDS)]
    same.append(model(tensor, **WORDS))
    assert all(torch.equal(boxes(each), boxes(same[0])) for each in same)
    assert not torch.equal(boxes(model(image, **WORDS)), boxes(same[0]))
    (result,) = model(image, **WORDS)
    assert np.array_equal(result.orig_img, image)


def test_a_stream_is_an_iterator_and_wrong_options_fail_at_once(best: Path, image) -> None:
    model = YOLO(best, verbose=False)
    results = model([image, image], stream=True, **WORDS)
    assert iter(results) is results
    assert len(next(results)) > 3 and len(list(results)) == 1
    with pytest.raises(UsageError, match="max_dte"):
        model(image, stream=True, max_dte=3)
    with pytest.raises(InputError, match=r"no such source: gone\.jpg"):
        model("gone.jpg", stream=True)


def test_files_are_written_only_if_asked_for(best: Path, image: np.ndarray, tmp_path: Path) -> None:
    model = YOLO(best, verbose=False)
    model(image, **WORDS)
    assert not (tmp_path / "runs" / "predict").exists()
    model(image, save_txt=True, **WORDS)
    assert (tmp_path / "runs" / "predict" / "labels" / "array-0.txt").exists()


# ---------------------------------------------------------------- weights


def test_saved_weights_answer_the_same(best: Path, image: np.ndarray, tmp_path: Path) -> None:
    model = YOLO(best, verbose=False)
    again = YOLO(model.save(tmp_path / "copy.safetensors"), verbose=False)
    assert torch.equal(boxes(model(image, **WORDS)), boxes(again(image, **WORDS)))
    with pytest.raises(UsageError, match=r"expected a file that ends in \.safetensors"):
        model.save("model.pt")


def test_loaded_weights_of_the_same_model_replace_those_of_a_name(
    best: Path, image: np.ndarray
) -> None:
    model = YOLO("yolo26n.yaml", verbose=False).load(best)
    expected = boxes(YOLO(best, verbose=False)(image, **WORDS))
    assert torch.equal(boxes(model(image, **WORDS)), expected)
    assert YOLO("yolo11n").load(best)._words == {"pretrained": str(best)}


def test_the_training_state_of_a_run_is_its_weights_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_squares(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    use_tiny_detector(monkeypatch)
    words = {"imgsz": 64, "amp": False, "workers": 0, "plots": False, "batch": 4, "device": "cpu"}
    trained = YOLO(verbose=False).train(data=str(data), epochs=1, **words)
    model = YOLO(trained["last"], verbose=False)
    assert model.ckpt_path == str(Path(trained["last"]).absolute())
    resumed = model.train(resume=True, epochs=2)
    assert resumed["epochs"] == 2 and Path(resumed["folder"]) == tmp_path / "runs" / "train"


# ---------------------------------------------------------------- results of runs


def test_results_of_val_are_a_dict_and_the_attributes_of_the_field(
    best: Path, tmp_path: Path
) -> None:
    measured = YOLO(best, verbose=False).val(
        data=str(write_data(tmp_path)), workers=0, plots=False, device="cpu"
    )
    metrics = measured["metrics"]
    box = measured.box
    assert (box.map, box.map50, box.map75) == (
        metrics["map"], metrics["map_50"], metrics["map_75"])  # fmt: skip
    assert (box.mp, box.mr) == (metrics["precision"], metrics["recall"])
    assert box.maps.tolist() == [row["ap"] for row in metrics["per_class"]]
    assert box.f1.tolist() == [row["f1"] for row in metrics["per_class"]]
    assert box.mean_results() == [box.mp, box.mr, box.map50, box.map]
    assert box.class_result(1) == (box.p[1], box.r[1], box.ap50[1], box.ap[1])
    assert measured.fitness == measured.results_dict["fitness"] == box.map > 0.05
    assert measured.results_dict["metrics/mAP50(B)"] == box.map50
    assert measured.names == dict(enumerate(CLASS_NAMES))
    assert set(measured.speed) == {"preprocess", "inference", "postprocess"}
    assert measured.save_dir == Path(measured["folder"]) and measured.save_dir.is_dir()
    matrix = measured.confusion_matrix.matrix
    assert matrix.shape == (4, 4) and matrix.T.tolist() == metrics["confusion"]
    assert matrix[:, :3].sum() == metrics["num_boxes"], "a column is a true class"
    rows = measured.summary()
    assert [row["Class"] for row in rows] == list(CLASS_NAMES)
    assert rows[0]["mAP50-95"] == round(box.maps[0], 5)
    assert measured.to_csv().startswith("Class,Images,Instances,Box-P,Box-R,Box-F1,mAP50,mAP50-95")
    assert pickle.loads(pickle.dumps(measured)) == measured == dict(measured)


def test_a_class_without_ground_truth_has_the_mean_in_maps() -> None:
    from yolodet.detector.evaluate.measured import BoxMetrics

    numbers = {"precision": 0.5, "recall": 0.5, "f1": 0.5, "ap_50": 0.5, "ap": 0.25}
    rows = [{"boxes": 0, **dict.fromkeys(numbers)}, {"boxes": 3, **numbers}]
    totals = {"map": 0.25, "map_50": 0.5, "map_75": None, "precision": 0.5, "recall": 0.5}
    box = BoxMetrics({**totals, "per_class": rows})
    assert box.maps.tolist() == [0.25, 0.25] and box.ap.tolist() == [0.25]
    assert box.ap_class_index.tolist() == [1] and math.isnan(box.map75)
