"""augment=True and model=a,b: several looks and several models, in val, predict and Python."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch
from exports import CLASS_NAMES, lively_detector, make_image, make_meta, write_data
from rows import each
from tiny import use_tiny_detector
from torch import Tensor, nn
from yolodet import YOLO
from yolodet.cli import main
from yolodet.detector.checkpoints.augment import LOOKS, Augmented, augmented
from yolodet.detector.evaluate.fusion import fuse, fused_detections
from yolodet.detector.evaluate.postprocess import postprocess
from yolodet.detector.export.exported import ExportedDetector, predictions_of
from yolodet.detector.models.predictions import ONE_TO_ONE
from yolodet.detector.options.detect import DetectOptions
from yolodet.detector.options.errors import UsageError
from yolodet.weights.checkpoint import load_weights, save_weights

ORDER = [2, 0, 1]
"""Class numbers of the first model in the second one."""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A detector, and the same with its classes in another order and other boxes."""
    use_tiny_detector(monkeypatch)
    monkeypatch.chdir(tmp_path)
    state = lively_detector().state_dict()
    save_weights(tmp_path / "a.safetensors", state, make_meta())
    other = {name: tensor.clone() for name, tensor in state.items()}
    for name in lively_detector().class_keys:
        other[name] = state[name][ORDER]
    names = tuple(CLASS_NAMES[number] for number in ORDER)
    save_weights(tmp_path / "b.safetensors", other, make_meta(class_names=names))
    cv2.imwrite("image.png", make_image((80, 90), 3))
    return Path("a.safetensors"), Path("b.safetensors")


class Square(nn.Module):
    """Finds the rectangle of bright pixels, whatever the size of the input."""

    branches, letterbox, max_stride, num_classes = (ONE_TO_ONE,), "center", 32, 1

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor, branches: object = None) -> dict[str, object]:
        self.sizes.append(tuple(images.shape[2:]))
        boxes = []
        for image in images:
            y, x = (image[0] > 127).nonzero(as_tuple=True)
            boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
        rows = torch.tensor(boxes).float()[:, None]
        return {ONE_TO_ONE: predictions_of(rows, torch.full((len(images), 1, 1), 0.75))}


def test_every_look_finds_an_object_where_it_is() -> None:
    images = torch.zeros(2, 3, 160, 320, dtype=torch.uint8)
    images[0, :, 40:80, 20:100] = 255
    images[1, :, 100:160, 200:310] = 255
    model, detect = augmented(square := Square(), DetectOptions(conf=0.5))
    first, second = postprocess(model(images), detect)
    assert square.sizes == [(160, 320), (160, 320), (128, 256), (192, 384)]
    assert torch.allclose(first.boxes, torch.tensor([[20.0, 40, 100, 80]]), atol=1)
    assert torch.allclose(second.boxes, torch.tensor([[200.0, 100, 310, 160]]), atol=1)
    assert torch.allclose(first.scores, torch.tensor([0.75]))


def test_augmented_is_the_fusion_of_the_looks() -> None:
    """One after the other, with the plain detector, at a quarter of the confidence."""
    plain, detect = lively_detector(), DetectOptions(conf=0.2)
    images = torch.from_numpy(make_image((96, 128), 5)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        parts = []
        for look in LOOKS:
            size = look.size(images, 32)
            (found,) = postprocess(plain(look.of(images, size)), replace(detect, conf=0.05))
            parts.append(look.back(found, size, images.shape[2:]))
        wanted = fused_detections(parts, detect)
        model, options = augmented(plain, detect)
        (found,) = postprocess(model(images), options)
    assert len(found) > 3
    assert torch.allclose(found.scores, wanted.scores) and found.labels.equal(wanted.labels)
    assert torch.allclose(found.boxes, wanted.boxes, atol=1e-3)


def test_two_models_are_fused_with_their_classes_matched_by_name(
    models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The second says the same under other numbers: as if the first had voted twice."""
    alone = YOLO(models[0], verbose=False).predict("image.png", conf=0.1, device="cpu")[0]
    wanted = fuse([alone.detections] * 2)
    both = YOLO("a.safetensors,b.safetensors", verbose=False)
    (found,) = both.predict("image.png", conf=0.2, device="cpu")
    keep = wanted.scores >= 0.2
    assert found.names == dict(enumerate(CLASS_NAMES)) and 0 < len(found) == int(keep.sum())
    assert torch.allclose(found.detections.scores, wanted.scores[keep])
    assert torch.allclose(found.detections.boxes, wanted.boxes[keep], atol=1e-3)
    words = ["source=image.png", "conf=0.2", "device=cpu", "save_json=True", "save=False", "--json"]
    assert main(["predict", "model=a.safetensors,b.safetensors", *words]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert result["detections"] == len(found)


def test_val_measures_fused_models_and_looks(
    models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_data(tmp_path)

    def measured(*words: str) -> dict:
        quick = ("device=cpu", "workers=0", "plots=False", "report=False", f"data={data}", "--json")
        assert main(["val", *words, *quick]) == 0
        return json.loads(capsys.readouterr().out)["result"]

    twice = measured("model=a.safetensors,a.safetensors")
    both = measured("model=a.safetensors,b.safetensors")
    assert both["metrics"]["map"] == pytest.approx(twice["metrics"]["map"], abs=1e-6) != 0
    assert both["checkpoint"] == "a.safetensors,b.safetensors" and both["augment"] is False
    looked = measured("model=a.safetensors", "augment=True", "tile=64")
    assert looked["augment"] is True and looked["metrics"]["map"] > 0
    every = measured("model=a.safetensors,b.safetensors", "augment=True")
    assert every["metrics"]["num_images"] == 8


A, B = "model=a.safetensors", "model=a.safetensors,b.safetensors"


@each(("typed", "answer"), [
    (f"predict {B} source=image.png conf=auto", "conf=auto with model="),
    (f"predict {A} source=image.png conf=auto augment=True", "conf=auto with augment"),
    (f"val {A} augment=True save_conf=True data=x.yaml", "save_conf=True with augment"),
    (f"predict {A},,b.safetensors source=image.png", "a name is empty"),
    (f"predict {A},c.safetensors source=image.png", "model=c.safetensors: no such file"),
    (f"export {B}", "only det val, det predict and det track"),
])  # fmt: skip
def test_what_cannot_be_fused_is_refused_in_one_line(
    typed: str, answer: str, models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed.split()) != 0
    assert answer in capsys.readouterr().err


def test_models_of_other_classes_are_not_fused(
    models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tensors, _ = load_weights(models[0])
    save_weights(Path("c.safetensors"), tensors, make_meta(class_names=("clock", "kit", "tram")))
    words = ["source=image.png", "device=cpu"]
    assert main(["predict", "model=a.safetensors,c.safetensors", *words]) != 0
    error = capsys.readouterr().err
    assert "c.safetensors does not know the class 'kite' of a.safetensors: did you mean" in error


def test_an_exported_file_of_one_size_cannot_be_looked_at_in_others() -> None:
    about = SimpleNamespace(
        model="yolo26n", num_classes=1, letterbox="center", stride=32, channels=3, dynamic=False
    )
    with pytest.raises(UsageError, match="export with dynamic=True"):
        augmented(ExportedDetector(lambda images: [], about), DetectOptions(conf=0.1))
    about.dynamic = True
    model, _ = augmented(ExportedDetector(lambda images: [], about), DetectOptions(conf=0.1))
    assert isinstance(model, Augmented) and model.max_stride == 32
