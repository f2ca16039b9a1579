"""The level of stride 4: its sizes, the weights of the plain model in it, and a run through all
commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from exports import enliven, needs_onnx
from rows import each
from tiny import keep_threads, write_tiny_data
from yolodet.cli import main
from yolodet.datasets.drawn.shapes import EASY_CLASSES
from yolodet.detector.models.build import architecture_of, build
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.levels import by_stride, fresh_parts
from yolodet.detector.options.errors import UsageError
from yolodet.detector.train.teacher import common_branches
from yolodet.weights.checkpoint import Meta, save_weights
from yolodet.weights.transfer import transfer

FRESH = [
    *("neck.mix_down2", "neck.down2", "neck.mix_up3"),
    *(f"head.{b}.{kind}.0" for b in ("one_to_many", "one_to_one") for kind in ("boxes", "classes")),
]
PAGE = Path(__file__).parents[2] / "docs" / "large-images.md"


def pretrained(name: str, source: Detector, classes: int) -> tuple[Detector, list[str]]:
    """A model with what fits of ``source``, and its fresh parts."""
    model = build(name, classes).eval()
    names = [str(number) for number in range(classes)]
    moved = transfer(
        by_stride(source.state_dict(), source.strides, model.strides),
        model.state_dict(),
        class_names_from=names,
        class_names_to=names,
        class_keys=model.class_keys,
    )
    model.load_state_dict(moved.loaded, strict=False)
    return model, fresh_parts(list(model.state_dict()), moved.loaded)


@each("name", ("yolo26n", "yolo26s", "yolo26m"))
def test_the_page_has_its_parameters_and_gflops(name: str) -> None:
    """Those of the whole model, and of what is deployed: one branch, norms folded."""
    for own in (name, f"{name}-p2"):
        with torch.device("meta"):
            model = build(own, 80)
        whole, used = model.describe(640), model.fuse(("one_to_one",)).describe(640)
        row = " | ".join(
            f"{facts['parameters']:,} | {facts['gflops']:.1f}" for facts in (whole, used)
        )
        assert f"| {own} | {row} |" in PAGE.read_text()
    assert model.strides == (4, 8, 16, 32)


@each("name", ("yolo26n", "yolo26m"))
def test_with_the_weights_of_the_plain_model_the_coarser_levels_predict_what_it_predicts(
    name: str,
) -> None:
    """Bit for bit, and the level of stride 4 finds nothing yet."""
    torch.manual_seed(0)
    plain = enliven(build(name, 3)).eval()
    fine, fresh = pretrained(f"{name}-p2", plain, 3)
    assert fresh == FRESH
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        ours, theirs = fine(images), plain(images)
    for branch, found in ours.items():
        coarse = found.strides > 4
        assert torch.equal(found.points[coarse], theirs[branch].points)
        assert torch.equal(found.logits[:, coarse], theirs[branch].logits)
        assert torch.equal(found.distances[:, coarse], theirs[branch].distances)
        assert float(found.logits[:, ~coarse].sigmoid().max()) < 0.01


def test_the_weights_come_back_without_the_fine_level() -> None:
    torch.manual_seed(0)
    plain = enliven(build("yolo26n", 3)).eval()
    again, fresh = pretrained("yolo26n", pretrained("yolo26n-p2", plain, 3)[0], 3)
    assert not fresh
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in again.state_dict().items())


def test_every_parameter_learns_from_the_second_step_on() -> None:
    """In the first one the gain of 0 holds back what is before it."""
    torch.manual_seed(0)
    model = build("yolo26n-p2", 2).train()
    model.detach_one_to_one = False
    for _ in range(2):
        model.zero_grad()
        found = model(torch.rand(2, 3, 64, 64))
        parts = [t for p in found.values() for t in (p.logits, p.distances)]
        torch.cat([part.square().mean()[None] for part in parts]).sum().backward()
        still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
        assert all(n.startswith(("neck.down2", "neck.mix_up3")) for n in still)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.01 * parameter.grad
    assert not still


@needs_onnx
def test_a_run_from_plain_weights_through_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_threads(monkeypatch)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    data, plain = write_tiny_data(tmp_path / "data"), enliven(build("yolo26n", 2))
    meta = Meta("yolo26n", EASY_CLASSES[:2], 64, plain.strides, "fp32",
                architecture=architecture_of(plain))  # fmt: skip
    save_weights(tmp_path / "plain.safetensors", plain.state_dict(), meta)
    quick = ("device=cpu", "workers=0", "plots=False", "project=runs")
    words = (*quick, "imgsz=64", "batch=3", "amp=False", f"data={data}")
    assert main(["train", "model=yolo26n-p2", "pretrained=plain.safetensors", "epochs=1",
                 "name=fine", *words]) == 0  # fmt: skip
    told = capsys.readouterr().err
    assert f"fresh: {', '.join(FRESH)}" in told and "levels of stride 4,8,16,32" in told
    assert main(["train", "resume=runs/fine", "epochs=2"]) == 0
    best = "runs/fine/weights/best.safetensors"
    assert main(["val", f"model={best}", f"data={data}", *quick]) == 0
    source = tmp_path / "data" / "images" / "val"
    assert main(["predict", f"model={best}", f"source={source}", "device=cpu", "project=runs"]) == 0
    capsys.readouterr()
    assert main(["export", f"model={best}", "format=onnx", "device=cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"]


def test_a_teacher_without_the_fine_level_is_refused() -> None:
    with torch.device("meta"):
        plain, fine = build("yolo26n", 2), build("yolo26n-p2", 2)
    with pytest.raises(UsageError, match=r"predicts at strides \(8, 16, 32\), the model"):
        common_branches("plain.safetensors", plain, fine)
