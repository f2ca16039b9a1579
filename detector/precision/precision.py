"""Which number format a run computes in, and why.

Mixed precision has three steps, all visible in step.py: casting (autocast around the forward pass),
loss scaling (a GradScaler, needed by fp16 alone) and accumulation in float32 (master weights,
gradients unscaled before clipping, float32 islands for decoding, IoU, assignment and loss).  There
is one code path: the scaler is switched off where it is not needed, never absent.

How a precision is chosen stands in ladder.py, the evidence in sanity.py, the watch in guard.py.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch

from ...weights.checkpoint import Meta
from ..run.hardware import candidates, objection, traits_of

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
        """The context of a forward pass: convolutions and products in ``dtype``."""
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.name != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling: without it, small fp16 gradients are lost to zero."""
        return torch.amp.GradScaler(self.device_type, enabled=self.name == "fp16")


def use_precision(amp: bool | str, meta: Meta, device: torch.device) -> Precision:
    """The precision of a forward pass with a trained checkpoint.

    By default the one that it was validated in while training, if this device has it; otherwise
    what ``amp`` names, or the first half precision that the device computes at full speed.
    """
    traits = traits_of(device)
    if amp == "checkpoint":
        against = objection(traits, meta.precision)
        reason = "as the checkpoint was validated" if against is None else against
        return Precision(meta.precision if against is None else "fp32", device.type, reason)
    if amp in DTYPES:
        return Precision(str(amp), device.type, f"amp={amp}")
    names = candidates(traits) if amp else ()
    return Precision(names[0] if names else "fp32", device.type, f"amp={amp}")
