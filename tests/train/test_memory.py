"""Whether a training fits into the memory there is: the estimate beside a real step, the words."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import tiny_detector, train, train_config, use_tiny_detector
from yolodet.cli import main
from yolodet.detector.models.build import build
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.precision import Precision
from yolodet.detector.report.verdict import verdict
from yolodet.detector.run.log import Log
from yolodet.detector.run.memory import PeakMemory
from yolodet.detector.train import memory
from yolodet.detector.train.assemble import Run, assemble
from yolodet.detector.train.memory import Needs, check_memory, needs_of, state_bytes
from yolodet.detector.train.optim import DEFAULTS, build_optimizer, choose_optimizer

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
    monkeypatch.setattr(memory, "needs_of", lambda *_: Needs(image=100 << 20, gradients=50 << 20))
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


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_the_state_of_an_optimizer_takes_what_was_estimated(name: str) -> None:
    model = tiny_detector()
    optimizer = build_optimizer(model, choose_optimizer(TrainConfig(optimizer=name)))
    estimate = state_bytes(optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    tensors = [t for state in optimizer.state.values() for t in state.values()]
    assert estimate == sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor) and t.ndim)


def test_a_frozen_part_has_no_gradients() -> None:
    model = tiny_detector()
    whole = needs_of(model, 64, FP32).gradients
    model.backbone.requires_grad_(False)
    assert 0 < needs_of(model, 64, FP32).gradients < whole == sum(
        4 * p.numel() for p in model.parameters()
    )
    assert needs_of(model, 64, FP32).kernels > 0


@pytest.mark.usefixtures("tiny_models")
def test_a_dry_run_says_what_is_needed_and_writes_nothing(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data={shapes}", f"project={tmp_path}", "device=cpu", "imgsz=64", "batch=6",
             "amp=False", "workers=0", "--dry-run"]  # fmt: skip
    assert main(["train", *words]) == 0
    out, err = capsys.readouterr()
    needs = re.match(r"needs about (\d+\.\d\d GiB) of memory", out)
    assert needs is not None
    assert f"memory     about {needs[1]}: process " in err
    assert main(["train", *words, "micro_batch=3", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["result"]
    parts = facts["memory"]["parts"]
    assert facts["dry_run"] and facts["memory"]["expected"] == sum(parts.values())
    assert parts["process"] > 100 << 20 and parts["activations of 3 images"] > 0
    assert parts["weights"] == parts["average (EMA)"] and parts["optimizer state"] > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("tiny_models")
@pytest.mark.skipif(
    not PeakMemory.measurable(torch.device("cpu")), reason="needs /proc of Linux"
)
def test_the_peak_stands_beside_what_was_expected(shapes: Path, tmp_path: Path) -> None:
    results = train(shapes, tmp_path, epochs=1)
    memory = json.loads((tmp_path / "train" / "results.json").read_text())["memory"]
    assert memory == results["memory"] and memory["idle"] < memory["peak"]
    grown = memory["expected"] - memory["idle"], memory["peak"] - memory["idle"]
    assert memory["error"] == pytest.approx(grown[0] / grown[1] - 1)
    held = verdict(results, {})[-1]
    assert held.startswith(f"It held {memory['peak'] / 2**30:.2f} GiB of memory at most")
    del results["memory"]  # of a run before this was measured
    assert "It held" not in " ".join(verdict(results, {}))
