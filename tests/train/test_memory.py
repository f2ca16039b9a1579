"""Whether a training fits into the memory there is: the estimate beside a real step, the words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import train_config, use_tiny_detector
from yolodet.detector.models.build import build
from yolodet.detector.options.errors import UsageError
from yolodet.detector.precision.precision import Precision
from yolodet.detector.run.log import Log
from yolodet.detector.train import memory
from yolodet.detector.train.assemble import Run, assemble
from yolodet.detector.train.memory import Needs, check_memory, needs_of

STEP = """
from peak_memory import peak_memory
from tiny import make_batch
from yolodet.detector.losses.detection import DetectionLoss, Gains
from yolodet.detector.models.build import build
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.precision import Precision
from yolodet.detector.train.memory import needs_of
from yolodet.detector.train.optim import build_optimizer, choose_optimizer
from yolodet.detector.train.step import TrainStep
model = build("yolo26n", 2).train()
precision = Precision("fp32", "cpu", "")
optimizer = build_optimizer(model, choose_optimizer(TrainConfig()))
step = TrainStep(model, DetectionLoss(Gains()), optimizer, precision, ema=None, clip=10.0)
batch, needs = make_batch(8, size=256), needs_of(model, 256, precision).of(8)
before = peak_memory()
step(batch, update=True, eager=False)
print((peak_memory() - before) / needs)
"""
FP32 = Precision("fp32", "cpu", "")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc of Linux")
def test_a_step_takes_about_what_was_estimated() -> None:
    rigs = str(Path(__file__).parents[1] / "rigs")
    program = f"import sys; sys.path.insert(0, {rigs!r}){STEP}"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert 0.6 < float(ran.stdout) < 1.4, ran.stderr


def test_more_pixels_and_more_images_need_more_and_half_precision_less() -> None:
    model = build("yolo11n", 3)
    small, large = needs_of(model, 128, FP32), needs_of(model, 256, FP32)
    assert large.image == pytest.approx(4 * small.image, rel=0.05) and large.fixed == small.fixed
    assert small.of(9) == small.fixed + 9 * small.image
    half = needs_of(model, 128, Precision("bf16", "cpu", ""))
    assert half.image < 0.7 * small.image
    stages = [needs_of(model, 128, Precision("bf16", "cpu", "", (n,))) for n in model.stages]
    assert all(half.image < each.image < small.image for each in stages)
    every = needs_of(model, 128, Precision("bf16", "cpu", "", tuple(model.stages)))
    assert 0.9 * small.image < every.image <= small.image  # but for what lies between stages


@pytest.fixture
def run(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    use_tiny_detector(monkeypatch)
    config, _ = train_config(shapes, tmp_path, batch=8, cache="none", imgsz=128)
    run = assemble(config, Log(verbose=False))
    run.close()
    monkeypatch.setattr(memory, "needs_of", lambda *_: Needs(image=100 << 20, fixed=50 << 20))
    return run


@pytest.mark.parametrize(
    ("available", "ways"),
    [
        (849 << 20, "use micro_batch=4 (gradients add up), or imgsz=96"),
        (249 << 20, "use micro_batch=1 (gradients add up)"),
        (40 << 20, "use a smaller model"),
    ],
)
def test_too_little_memory_is_refused_with_what_helps(run: Run, available: int, ways: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_memory(run, FP32, available)
    assert str(refused.value).startswith("a step of yolo26n with batch=8 imgsz=128 in fp32 needs")
    assert str(refused.value).endswith(ways)
    check_memory(run, FP32, 850 << 20)
    run.device = torch.device("cuda")  # which says so itself
    check_memory(run, FP32, available)


def test_the_machine_is_asked_before_the_first_step(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolodet.detector.train import pipeline

    monkeypatch.setattr(memory, "available_memory", lambda: 300 << 20)
    with pytest.raises(UsageError, match=r"0\.8 GiB of memory, and 0\.3 GiB are available"):
        pipeline.train(run.config, frozenset(), Log(verbose=False))
    assert not list(Path(run.config.project).glob("train*"))
