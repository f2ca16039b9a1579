"""What a command changes in its process and a caller of the Python interface wants back."""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Iterator

import cv2
import numpy as np
import torch

from .device import give_freed_memory


@contextlib.contextmanager
def settings_kept() -> Iterator[None]:
    """Give back what the caller had set: generators, threads, determinism, kernels, warnings."""
    python, numpy = random.getstate(), np.random.get_state()
    threads, threads_of_cv2 = torch.get_num_threads(), cv2.getNumThreads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    benchmark, products = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    gpus = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(gpus), warnings.catch_warnings():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            cv2.setNumThreads(threads_of_cv2)
            torch.use_deterministic_algorithms(deterministic, warn_only=warns)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
            torch.backends.cudnn.benchmark = benchmark
            torch.set_float32_matmul_precision(products)
            give_freed_memory()
