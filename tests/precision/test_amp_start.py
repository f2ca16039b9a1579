"""``det amp`` of a checkpoint: which weights are examined."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from tiny import train, use_tiny_detector, write_tiny_data
from yolodet.detector.examine.contest import training_config
from yolodet.detector.options.amp import AmpConfig
from yolodet.detector.run.log import Log
from yolodet.detector.train.assemble import assemble
from yolodet.weights.checkpoint import load_weights


def test_the_check_is_of_the_weights_that_a_training_would_start_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained activations are not fresh ones: a checkpoint is examined with its own weights."""
    use_tiny_detector(monkeypatch)
    monkeypatch.chdir(tmp_path)
    data = write_tiny_data(tmp_path / "data")
    trained = train(data, tmp_path / "runs", epochs=1, lr0=0.05)
    tensors, _ = load_weights(Path(trained["best"]))
    config = AmpConfig(model=trained["best"], data=str(data), imgsz=64, batch=2, device="cpu")
    run = assemble(training_config(config), Log(verbose=False))
    with contextlib.closing(run):
        state = run.model.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in tensors.items())
        assert set(tensors) == set(run.transferred.loaded)
