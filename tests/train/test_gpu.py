"""On a CUDA device, through the command line: training in each precision, repeated and resumed bit
for bit, what runs out of memory, and what the trained detector says there and on the CPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exports import enliven
from test_resume import in_batch, stop
from tiny import (
    bits,
    make_batch,
    make_criterion,
    overflowing,
    same,
    saved,
    train,
    write_tiny_data,
)
from yolodet.cli import main
from yolodet.detector.checkpoints.restore import restore
from yolodet.detector.models.build import build
from yolodet.detector.models.checkpointing import checkpoint_stages
from yolodet.detector.run.folder import BEST
from yolodet.weights.checkpoint import load_weights, read_meta, save_weights

CARD = torch.device("cuda", 0)
TRAIN = {"model": "yolo26n", "imgsz": 96, "batch": 8, "epochs": 2, "workers": 2, "plots": False}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
Det = Callable[..., tuple[Any, str]]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data") / "scenes", train=24, val=6)


@pytest.fixture
def det(capfd: pytest.CaptureFixture[str], scenes: Path, tmp_path: Path) -> Det:
    """Runs a command: what --json says of it, and stderr."""

    def run(verb: str, *words: str, code: int = 0, **options: object) -> tuple[Any, str]:
        if "resume" not in options:
            place = {"data": scenes, "device": CARD, "project": tmp_path}
            options = place | (TRAIN if verb == "train" else {}) | options
        typed = [*verb.split(), *words, *(f"{name}={value}" for name, value in options.items())]
        ended = main([*typed, "--json"])
        said, told = capfd.readouterr()
        assert ended == code, told
        return json.loads(said)["result"] if not code else None, told

    return run


@pytest.fixture
def best(det: Det, tmp_path: Path) -> Path:
    """A checkpoint that was trained in float32."""
    det("train", amp=False, epochs=4, name="float")
    return tmp_path / "float" / BEST


@pytest.fixture
def limited() -> Iterator[None]:
    """This process may take 2 GiB of the card."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(CARD).total_memory
    torch.cuda.set_per_process_memory_fraction((2 << 30) / total, CARD)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0, CARD)
    torch.cuda.empty_cache()


@pytest.mark.parametrize(
    "words",
    [
        {"amp": False},
        {"amp": "bf16"},
        {"amp": "fp16"},
        {"amp": True},
        {"amp": True, "compile": True},
        {"amp": "bf16", "checkpointing": True},
        {"amp": "bf16", "augment_device": "cpu", "cache": "none"},
        {"amp": "bf16", "augment_device": "cuda"},
        {"amp": "fp16", "optimizer": "AdamW", "channels_last": False},
        {"amp": "bf16", "optimizer": "SGD", "deterministic": False, "workers": 0},
        {"amp": "bf16", "batch": 3, "micro_batch": 2, "multi_scale": 0.5, "model": "yolo26n-p2"},
    ],
)
def test_a_run_on_the_card_ends_in_its_precision(det: Det, words: dict[str, Any]) -> None:
    result, told = det("train", **words)
    precision = result["precision"]
    if words["amp"] is not True:
        assert precision["name"] == (words["amp"] or "fp32")
    elif precision["name"] == "fp32":  # so small a model waits for its launches
        assert "not faster" in precision["reason"]
    assert np.isfinite(result["metrics"]["map"])
    assert "arning" not in told and "WARNING" not in told


@pytest.mark.parametrize("amp", [False, "bf16", "fp16"])
def test_a_run_is_repeated_and_resumed_bit_for_bit(det: Det, tmp_path: Path, amp: Any) -> None:
    for name in ("one", "two"):
        det("train", amp=amp, epochs=3, name=name)
    with in_batch(4, stop()):
        det("train", amp=amp, epochs=3, name="stopped", code=143)
    det("train", resume=tmp_path / "stopped")
    one = saved(tmp_path / "one")
    for name in ("two", "stopped"):
        other = saved(tmp_path / name)
        for part in ("model", "ema", "optimizer", "scaler", "position"):
            assert same(one[part], other[part]), (name, part)
        weights = (load_weights(tmp_path / folder / BEST)[0] for folder in ("one", name))
        assert same(*weights)


def test_verify_replays_a_run_of_the_card(det: Det, tmp_path: Path) -> None:
    det("train", amp="bf16", name="run")
    assert main(["verify", f"run={tmp_path / 'run'}"]) == 0


@pytest.mark.parametrize("name", ["yolo26n", "yolo11n", "yolov8n", "yolov9t", "yolox_nano"])
def test_card_and_cpu_compute_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and gradients in float32, without TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    torch.manual_seed(0)
    model = enliven(build(name, 2)).train()
    losses, gradients = [], []
    for device in (torch.device("cpu"), CARD):
        model.to(device).zero_grad()
        batch = make_batch(4, 128).to(device)
        loss = make_criterion()(model(batch.images), batch).total
        loss.backward()
        losses.append(float(loss.detach()))
        found = [p.grad.cpu().flatten() for p in model.parameters() if p.grad is not None]
        gradients.append(torch.cat(found))
    torch.set_float32_matmul_precision(before)
    one, other = gradients
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert torch.cosine_similarity(one, other, dim=0) > 0.999
    assert float(other.norm()) == pytest.approx(float(one.norm()), rel=1e-2)


def test_a_checkpoint_scores_the_same_there_and_on_the_cpu(det: Det, best: Path) -> None:
    scores = {}
    for device in ("cpu", CARD):
        result, _ = det("val", model=best, device=device, plots=False, imgsz=96)
        scores[device] = result["metrics"]["map"]
    assert scores[CARD] == pytest.approx(scores["cpu"], abs=2e-3)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", ["torchscript", "torch_export"])
def test_files_are_written_and_proven_on_the_card(
    best: Path, tmp_path: Path, kind: str, half: bool
) -> None:
    words = [f"model={best}", f"format={kind}", f"half={half}", f"project={tmp_path}", "imgsz=96"]
    assert main(["export", *words, f"device={CARD}"]) == 0


def test_batch_auto_measures_what_fits(det: Det, limited: None) -> None:
    result, told = det("train", batch="auto", imgsz=320, epochs=1, amp="bf16")
    assert "batch=auto: " in told and np.isfinite(result["metrics"]["map"])


def test_a_run_that_runs_out_of_memory_goes_on(
    scenes: Path, tmp_path: Path, limited: None
) -> None:
    """24 images of 640 pixels take 7 GiB in float32."""
    words = {"device": str(CARD), "imgsz": 640, "batch": 24, "epochs": 1}
    result = train(scenes, tmp_path, **words)
    log = (tmp_path / "train" / "log.txt").read_text()
    assert log.count("memory ran out") >= 2 and result["micro_batch"] <= 6
    assert np.isfinite(result["metrics"]["map"])


def test_a_memory_budget_is_kept(det: Det) -> None:
    result, _ = det("train", imgsz=320, batch=24, epochs=1, amp=True, memory="1GiB")
    assert result["memory"]["peak"] < 1.05 * 2**30


def test_only_the_stage_that_overflows_is_in_fp32(det: Det, best: Path, tmp_path: Path) -> None:
    model, _ = restore(best)
    overflowing(model.backbone.stage3)
    save_weights(tmp_path / "big.safetensors", model.state_dict(), read_meta(best))
    result, told = det("train", model=tmp_path / "big.safetensors", amp="fp16", epochs=1)
    assert result["precision"]["name"] == "fp16"
    assert "backbone.stage3" in result["precision"]["fp32_stages"], told


@pytest.mark.parametrize("words", ["qat", "teacher"])
def test_compression_trains_on_the_card(det: Det, best: Path, words: str) -> None:
    options = {"model": best, "qat": "int8"} if words == "qat" else {"teacher": best}
    result, _ = det("train", amp="bf16", **options)
    assert np.isfinite(result["metrics"]["map"])


def test_pruning_works_on_the_card(det: Det, best: Path) -> None:
    result, _ = det("prune", model=best, keep=0.5, epochs=1, imgsz=96, batch=8, plots=False)
    whole, last = result["rows"][0], result["rows"][-1]
    assert np.isfinite(last["ap"]) and last["gflops"] < 0.6 * whole["gflops"]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_checkpointing_changes_no_bit_on_the_card(precision: torch.dtype) -> None:
    found = []
    for again in (False, True):
        torch.manual_seed(0)
        model = build("yolo26n", 2).to(CARD).train()
        checkpoint_stages(model, list(model.stages) if again else [])
        batch = make_batch(4, 128).to(CARD)
        with torch.autocast("cuda", precision, enabled=precision != torch.float32):
            outputs = model(batch.images)
        make_criterion()(outputs, batch).total.backward()
        found.append([bits(p.grad) for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_bench_of_precisions_measures_the_card(det: Det) -> None:
    words = {"imgsz": 96, "batch": 4, "steps": 2, "rounds": 2, "largest_batch": False}
    result, _ = det("bench amp", model="yolo26n", **words)
    assert [row["precision"] for row in result["results"]] == ["fp32", "tf32", "bf16", "fp16"]
    assert all(row["peak_bytes"] > 0 for row in result["results"])
