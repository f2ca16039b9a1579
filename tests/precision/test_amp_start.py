"""``det amp`` of a checkpoint: which weights are examined."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
from tiny import make_batch, train, use_tiny_detector, write_tiny_data
from yolodet.detector.checkpoints.restore import restore
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
    config = AmpConfig(model=trained["best"], data=str(data), imgsz=64, batch=2, device="cpu")
    run = assemble(training_config(config), Log(verbose=False))
    with contextlib.closing(run):
        images = make_batch(2).images  # filters come in one size, and answers stay
        with torch.inference_mode():
            ours = run.model.eval()(images)["one_to_one"].logits
            own = restore(Path(trained["best"]))[0].eval()(images)["one_to_one"].logits
        torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-4)
        assert set(load_weights(Path(trained["best"]))[0]) == set(run.transferred.loaded)
