"""Memory of a device: whether an error says that it ran out, and the peak of a piece of work.

On a CPU the peak is that of the process (VmHWM of Linux's /proc, which can be set back); on CUDA
that of torch's allocator.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

import torch

from ...files.limits import available_memory
from .device import trim_freed_memory

RAN_OUT = (
    "can't allocate memory",
    "out of memory",
    "std::bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""What torch's RuntimeError says where a device has no exception type of its own."""
TOO_LARGE = ("INT_MAX elements", "canUse32BitIndexMath")
"""What torch says where a tensor has more elements than one of its CUDA kernels can count."""
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def out_of_memory(error: BaseException) -> bool:
    """Whether GPU or main memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in RAN_OUT)


def too_large(error: BaseException) -> bool:
    """Whether a tensor was too large for a kernel of torch, which fewer images fix too."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in TOO_LARGE)


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still take on ``device``."""
    if device.type != "cuda":
        return available_memory()
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + kept


def drop_unused(device: torch.device) -> None:
    """Give back what nothing refers to: to the driver, or to the system."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "cpu":
        trim_freed_memory()


class PeakMemory:
    """Bytes above those in use at ``begin``."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.base = 0

    @staticmethod
    def measurable(device: torch.device) -> bool:
        """Whether peaks can be measured here: CUDA, or Linux whose kernel can set them back."""
        return device.type == "cuda" or (device.type == "cpu" and os.access(_CLEAR, os.W_OK))

    def begin(self) -> None:
        """Take what is in use now as the base."""
        drop_unused(self.device)
        cuda = self.device.type == "cuda"
        self.base = torch.cuda.memory_allocated(self.device) if cuda else _resident("VmRSS")
        self.reset()

    def reset(self) -> None:
        """Forget the peak until now; the base stays."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif self.measurable(self.device):
            _CLEAR.write_text("5")

    def bytes(self) -> int:
        """The peak since ``reset``, above the base."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.base
        return _resident("VmHWM") - self.base


def _resident(name: str) -> int:
    """A size of this process in bytes, from /proc; 0 where there is none."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
