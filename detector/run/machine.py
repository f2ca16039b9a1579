"""What this machine can compute with: versions, devices, precisions.  ``det info`` prints it."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from .device import describe_device
from .hardware import traits_of


def describe_machine() -> dict[str, Any]:
    """Versions and devices as plain data; a device says which precisions its hardware computes."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": version("torchvision"),
        "cuda": torch.version.cuda,
        "system": platform.platform(),
        "devices": [_describe(device) for device in _devices()],
    }


def _devices() -> list[torch.device]:
    """The CPU, then every accelerator, as ``device=`` names them."""
    found = [torch.device("cpu")]
    found += [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return found + [torch.device("mps")] * torch.backends.mps.is_available()


def _describe(device: torch.device) -> dict[str, Any]:
    return {"device": describe_device(device), "native": ["fp32", *_half_precisions(device)]}


def _half_precisions(device: torch.device) -> list[str]:
    """The half precisions that the hardware multiplies in, not only emulates."""
    traits = traits_of(device)
    return ["fp16"] * traits.fp16_native + ["bf16"] * traits.bf16_native
