"""Versions, devices and precisions of this machine, as ``det info`` prints them."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from .device import describe_device
from .hardware import candidates, traits_of


def describe_machine() -> dict[str, Any]:
    """Versions and devices as plain data; each device with the precisions it computes natively."""
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
    native = ["fp32", *candidates(traits_of(device))]  # those that amp=True tries
    return {"device": describe_device(device), "native": native}
