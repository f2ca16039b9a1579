"""What the Python interface leaves as the caller had it, and what can be sent elsewhere."""

from __future__ import annotations

import copy
import os
import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from exports import make_image, make_run
from tiny import use_tiny_detector
from yolodet import YOLO
from yolodet.detector.run.signals import Interrupted
from yolodet.weights.checkpoint import CheckpointError

RUN = {
    "imgsz": 64, "batch": 4, "epochs": 1, "amp": False, "workers": 0, "device": "cpu",
    "plots": False, "threads": 1, "verbose": False,
}  # fmt: skip


def settings() -> dict[str, Any]:
    """Everything that belongs to the caller."""
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warns": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        "benchmark": torch.backends.cudnn.benchmark,
        "products": torch.get_float32_matmul_precision(),
        "seed": torch.initial_seed(),
        "random": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
        "threads": torch.get_num_threads(),
        "cv2": cv2.getNumThreads(),
        "warnings": list(warnings.filters),
        "folder": os.getcwd(),
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
    }


@pytest.fixture
def caller():
    """Settings that no command would choose, put back afterwards."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(2)
    cv2.setNumThreads(3)
    torch.manual_seed(123)
    torch.rand(1)
    torch.backends.cudnn.benchmark = True
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])
    torch.backends.cudnn.benchmark = False


def test_training_and_validating_leave_the_process_as_it_was(
    tmp_path: Path, squares: Path, monkeypatch: pytest.MonkeyPatch, caller: None
) -> None:
    monkeypatch.chdir(tmp_path)
    keep = torch.set_num_threads
    use_tiny_detector(monkeypatch)
    monkeypatch.setattr(torch, "set_num_threads", keep)  # the real one
    before = settings()
    model = YOLO("yolo26n", verbose=False)
    model.train(data=str(squares), **RUN)
    assert settings() == before
    model.val(data=str(squares), workers=0, device="cpu", plots=False, threads=1, verbose=False)
    assert settings() == before
    with pytest.raises(ValueError, match="freeze"):
        model.train(data=str(squares), **RUN, freeze="nothing")
    assert settings() == before


def test_a_model_can_be_copied_and_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = make_run(tmp_path, monkeypatch)
    image = make_image((50, 90), 3)
    model = YOLO(weights / "best.safetensors", verbose=False)
    (want,) = model.predict(image, device="cpu", conf=0.2)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
        (got,) = twin.predict(image, device="cpu", conf=0.2)
        assert torch.equal(got.boxes.data, want.boxes.data) and len(got) > 3
        (again,) = (pickle.loads(pickle.dumps(got)),)
        assert torch.equal(again.boxes.data, want.boxes.data) and again.names == want.names


def test_a_model_reads_its_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = make_run(tmp_path, monkeypatch)
    image = make_image((50, 90), 3)
    monkeypatch.chdir(weights)
    model = YOLO("best.safetensors", verbose=False)
    (want,) = model.predict(image, device="cpu", conf=0.2)
    (weights / "best.safetensors").write_bytes(b"another file")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (got,) = model.predict(image, device="cpu", conf=0.2)
    (weights / "best.safetensors").unlink()
    (last,) = model.predict(image, device="cpu", conf=0.2)
    assert torch.equal(got.boxes.data, want.boxes.data) and torch.equal(
        last.boxes.data, want.boxes.data
    )


@pytest.mark.parametrize("error", [Interrupted(15, "stopped"), CheckpointError("a\x1bb")])
def test_an_error_can_be_sent(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)
    assert again.exit_code == error.exit_code  # type: ignore[attr-defined]
