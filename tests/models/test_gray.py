"""channels=1: one-channel stems, what they do with gray and colored images, and their weights."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from exports import enliven, lively_detector, make_images, make_meta, needs_onnx, write_data
from rows import each
from tiny import use_tiny_detector
from yolodet import YOLO
from yolodet.cli import main
from yolodet.detector.export.exported import about_file
from yolodet.detector.models.build import architecture_of, build, build_from
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.gray import stem_with, to_gray, with_channels
from yolodet.detector.quantization.simulate import simulate
from yolodet.weights.checkpoint import read_meta, save_weights

FAMILIES = ("yolo26n", "yolo26n-p2", "yolo11n", "yolov8n", "yolov9t", "yolov9m", "yolox_nano")


def with_stem(model: Detector, channels: int) -> Detector:
    """A copy for images of other channels."""
    other = build_from(with_channels(architecture_of(model), channels))
    other.to(next(model.parameters()).dtype)
    other.load_state_dict(stem_with(model.state_dict(), channels))
    return other.eval()


def gray_images(count: int, size: tuple[int, int] = (64, 96)) -> torch.Tensor:
    """[N,3,H,W] uint8 with three equal channels."""
    return make_images(count, size)[:, :1].expand(-1, 3, -1, -1)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_gray_images_lose_nothing_and_colored_ones_become_their_luma(kind: torch.dtype) -> None:
    gray, colors = gray_images(2), make_images(2, (64, 96))
    unit = 1 if kind == torch.uint8 else 255
    seen = to_gray((gray / unit).to(kind))
    assert seen.dtype == kind and torch.equal(seen, (gray[:, :1] / unit).to(kind))
    assert to_gray(seen) is seen
    wanted = [cv2.cvtColor(image.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY) for image in colors]
    luma = to_gray((colors / unit).to(kind))[:, 0].numpy() * unit
    assert np.abs(luma - np.stack(wanted).astype(float)).max() <= (1 if unit == 1 else 0.51)


@each("name", FAMILIES)
def test_the_summed_stem_gives_the_same_on_gray_images(name: str) -> None:
    """As three channels and as one; and so does the stem that is spread again."""
    torch.manual_seed(0)
    plain = enliven(build(name, 3)).double()  # float32 rounds, and depth multiplies that
    gray = with_stem(plain, 1)
    back = with_stem(gray, 3)
    assert (plain.channels, gray.channels) == (3, 1)
    assert gray.preprocessing["channels"] == "gray"
    images = gray_images(1).double() / 255
    with torch.no_grad():
        wanted = plain(images)
        for model, given in ((gray, images), (gray, images[:, :1]), (back, images)):
            for branch, found in model(given).items():
                for field in ("logits", "distances"):
                    ours, theirs = getattr(found, field), getattr(wanted[branch], field)
                    close = 1e-9 if ours.dtype == torch.float64 else 1e-5  # YOLOX: float32
                    assert float((ours - theirs).abs().max()) < close * float(theirs.abs().max())


def test_a_gray_model_can_be_rounded() -> None:
    torch.manual_seed(0)
    model = simulate(with_stem(enliven(build("yolo26n", 3)), 1))
    assert model(gray_images(1))["one_to_one"].logits.isfinite().all()


@needs_onnx
def test_a_gray_run_from_colored_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, resumed, measured and exported; the file takes one channel and says the same."""
    use_tiny_detector(monkeypatch)
    monkeypatch.chdir(tmp_path)
    data = write_data(tmp_path)
    save_weights(Path("rgb.safetensors"), lively_detector().state_dict(), make_meta())
    words = ("workers=0", "device=cpu", "plots=False", "project=runs", "imgsz=96", "amp=False",
             "batch=4", f"data={data}")  # fmt: skip
    assert main(["train", "model=rgb.safetensors", "channels=1", "epochs=1", "name=a", *words]) == 0
    assert "channels=1, the weights have 3" in capsys.readouterr().err
    assert main(["train", "resume=runs/a", "epochs=2"]) == 0
    best = Path("runs/a/weights/best.safetensors")
    meta = read_meta(best)
    assert (meta.channels, meta.schema) == (1, 3)
    assert main(["train", f"model={best}", "epochs=1", "name=b", *words]) == 0
    assert read_meta(Path("runs/b/weights/best.safetensors")).channels == 1
    assert main(["val", f"model={best}", "workers=0", "device=cpu", "plots=False"]) == 0
    capsys.readouterr()
    assert main(["export", f"model={best}", "format=onnx", "device=cpu", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["result"]
    file = Path(written["exports"][0]["file"])
    assert written["passed"] and about_file(file).channels == 1
    import onnx

    sizes = onnx.load(file).graph.input[0].type.tensor_type.shape.dim
    assert [each.dim_value for each in sizes] == [1, 1, 96, 96]
    picture = next((tmp_path / "images").rglob("*.png"))  # a colored one
    ours, theirs = (
        YOLO(path, verbose=False).predict(picture, conf=0.05, device="cpu")[0].boxes.data
        for path in (best, file)
    )
    assert len(ours) and torch.allclose(ours, theirs, atol=1e-3)
    capsys.readouterr()
    main(["export", f"model={best}", "format=onnx", "int8=weights", "device=cpu", "--json"])
    (entry,) = json.loads(capsys.readouterr().out)["result"]["exports"]
    assert entry["quantization"]["size"] < 1


@pytest.mark.parametrize("channels", [2, 4])
def test_other_numbers_of_channels_are_refused(
    channels: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "data=coco8.yaml", f"channels={channels}"]) == 2
    assert "expected 1 (gray) or 3 (RGB); of images with four" in capsys.readouterr().err
