"""What this machine can compute with: versions, devices, precisions.  ``det info`` prints it."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import torch

from .device import describe_device


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
    if device.type == "cuda":  # tensor cores: fp16 since 7.0 (Volta), bf16 since 8.0 (Ampere)
        capability = torch.cuda.get_device_capability(device)
        return ["fp16"] * (capability >= (7, 0)) + ["bf16"] * (capability >= (8, 0))
    if device.type == "mps":
        return ["fp16"]
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.11 there is no asking
        return []
    able = torch.cpu.get_capabilities()
    fp16 = able.get("avx512_fp16") or able.get("amx_fp16")
    bf16 = able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16")
    return ["fp16"] * bool(fp16) + ["bf16"] * bool(bf16)
