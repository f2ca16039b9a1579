"""Writing the checkpoints of a run: the last state, the best weights, and some to keep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...weights.checkpoint import Meta, save_state, save_weights
from ..run.folder import BEST, LAST
from ..run.observer import Observers
from .assemble import Run


class CheckpointWriter:
    """Writes into ``folder`` and tells the observers.  ``active``: False with save=False and on
    every rank but the first."""

    def __init__(self, run: Run, folder: Path, observers: Observers) -> None:
        self.run, self.folder, self.observers = run, folder, observers
        self.active = run.config.save and run.ranks.first

    def save_best(self, meta: Meta) -> None:
        """The deployed weights are the best so far."""
        self._save_weights(self.folder / BEST, meta)

    def save_last(self, state: Mapping[str, Any], meta: Meta, *, between_epochs: bool) -> None:
        """Everything needed to continue; every ``save_period`` epochs also weights that stay."""
        path, period = self.folder / LAST, self.run.config.save_period
        save_state(path, dict(state))
        self.observers.saved(path, meta.epoch)
        if period > 0 and between_epochs and meta.epoch % period == 0:
            self._save_weights(path.with_name(f"epoch{meta.epoch}.safetensors"), meta)

    def _save_weights(self, path: Path, meta: Meta) -> None:
        """With save_dtype=fp16, norms and biases stay float32: they are few, and running variances
        may leave the range of fp16; so does a tensor with a value outside of it."""
        tensors: dict[str, Tensor] = dict(self.run.deployed.state_dict())
        if self.run.config.save_dtype == "fp16":
            tensors = {k: _halved(v) if v.ndim > 1 else v for k, v in tensors.items()}
        save_weights(path, tensors, meta)
        self.observers.saved(path, meta.epoch)


def _halved(tensor: Tensor) -> Tensor:
    half = tensor.half()
    return half if bool(half.isfinite().all()) else tensor
