"""Runs modules that torch has loaded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch


class TorchRunner:
    """images [B,3,H,W] -> float32 arrays.  threads: of torch during a run; None: unchanged."""

    def __init__(
        self, module: Callable[..., object], device: torch.device, threads: int | None = None
    ) -> None:
        self.module = module
        self.device = device
        self.threads = threads

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        before = torch.get_num_threads()
        if self.threads not in (None, before):
            torch.set_num_threads(self.threads)
        try:
            with torch.no_grad():  # a TorchScript that was frozen refuses inference tensors
                found = self.module(torch.from_numpy(images).to(self.device))
        finally:
            if torch.get_num_threads() != before:
                torch.set_num_threads(before)
        outputs = found if isinstance(found, tuple | list) else (found,)
        return [each.float().cpu().numpy() for each in outputs]
