"""Which number format a run computes in, and why.

Mixed precision has three steps, all visible in step.py: casting (autocast around the forward pass),
loss scaling (a GradScaler, needed by fp16 alone) and accumulation in float32 (master weights,
gradients unscaled before clipping, float32 islands for decoding, IoU, assignment and loss).  There
is one code path: the scaler is switched off where it is not needed, never absent.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch

from ...weights.checkpoint import Meta
from ..config import TrainConfig
from ..log import Log

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """A decision.  name: fp32, bf16 or fp16; reason: in words, for the user."""

    name: str
    device_type: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.name]

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """The context of a forward pass: convolutions and products in ``dtype``, the rest in
        float32."""
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.name != "fp32")  # type: ignore[no-any-return]

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling: without it, small fp16 gradients are lost to zero."""
        return torch.amp.GradScaler(self.device_type, enabled=self.name == "fp16")

    def __str__(self) -> str:
        return f"{self.name} on {self.device_type} ({self.reason})"


def choose_precision(config: TrainConfig, device: torch.device, log: Log) -> Precision:
    """The precision of a run, said on the log."""
    precision = resolve(config.amp, device)
    log.info(f"precision {precision}")
    return precision


def use_precision(amp: str, meta: Meta, device: torch.device) -> Precision:
    """The precision of a forward pass with a trained checkpoint: the one it was validated in where
    the device has it, or what ``amp`` names."""
    if amp == "checkpoint":
        name = meta.precision if native(device, meta.precision) else "fp32"
        return Precision(name, device.type, "as the checkpoint was validated")
    return resolve(amp, device)


def resolve(amp: str, device: torch.device) -> Precision:
    """``amp`` as typed -> the best precision that the device computes natively."""
    if amp in ("false", "fp32"):
        return Precision("fp32", device.type, "as told")
    if amp in ("fp16", "bf16"):
        return Precision(amp, device.type, "as told")
    for name in ("bf16", "fp16"):
        if native(device, name):
            return Precision(name, device.type, "native on this device")
    return Precision("fp32", device.type, "this device computes neither bf16 nor fp16 natively")


def native(device: torch.device, name: str) -> bool:
    """Whether the device computes in the named precision at full speed."""
    if name == "fp32":
        return True
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False) if name == "bf16" else True
    if device.type == "cpu":
        return name == "bf16" and torch.cpu._is_avx512_bf16_supported()
    return name == "fp16"
