"""Which kernels torch computes with."""

from __future__ import annotations

import os

import torch


def choose_kernels(device: torch.device, *, deterministic: bool) -> None:
    """Deterministic kernels where torch has them, or the fastest; for the whole process."""
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # Determinism also fills every new tensor, for code that reads memory it has not written: that
    # costs a tenth of a step on a CPU.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    if device.type == "cuda":
        if deterministic:  # cuBLAS reads it when it is used first, and torch warns without it
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_float32_matmul_precision("high")  # TF32 for products that stay in float32
