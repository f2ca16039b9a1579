"""Which number format a run computes in, and why.

Mixed precision has three steps, all visible in step.py: casting (autocast around the forward pass),
loss scaling (a GradScaler, needed by fp16 alone) and accumulation in float32 (master weights,
gradients unscaled before clipping, float32 islands for decoding, IoU, assignment and loss).  There
is one code path: where the scaler is not needed, it is disabled.

ladder.py chooses a precision, sanity.py checks it, guard.py watches it during training.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch

from ...weights.checkpoint import Meta
from ..run.hardware import candidates, objection, traits_of
from ..run.words import labeled

FIRST_SCALE = 2.0**16
"""Loss scale of fp16 where nothing was measured, as torch begins."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """name: fp32, bf16 or fp16.  reason: why it was chosen, for the user.  fp32_stages: those of
    the model that compute in float32 all the same (``models/float32_stages.py``).  first_scale: of
    the loss at the start; with a larger one the first updates are skipped until it fits."""

    name: str
    device_type: str
    reason: str
    fp32_stages: tuple[str, ...] = ()
    first_scale: float = FIRST_SCALE

    @property
    def label(self) -> str:
        """The name, and which stages it leaves out."""
        return labeled(self.name, self.fp32_stages)

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.name]

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """The context of a forward pass: convolutions and products in ``dtype``."""
        return torch.autocast(self.device_type, dtype=self.dtype, enabled=self.name != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling for fp16, whose small gradients would become zero; disabled for the
        others."""
        fp16 = self.name == "fp16"
        return torch.amp.GradScaler(self.device_type, init_scale=self.first_scale, enabled=fp16)


def use_precision(amp: bool | str, meta: Meta, device: torch.device) -> Precision:
    """The precision of a forward pass with a trained checkpoint.

    amp: ``checkpoint`` for the one it was validated in while training, if this device has it; the
    name of a precision; True for the first half precision that the device computes at full speed.
    Stages that were in float32 in training stay so.
    """
    traits = traits_of(device)
    if amp == "checkpoint":
        against = objection(traits, meta.precision)
        name = meta.precision if against is None else "fp32"
        reason = "as the checkpoint was validated" if against is None else against
    elif amp in DTYPES:
        name, reason = str(amp), f"amp={amp}"
    else:
        name, reason = (*(candidates(traits) if amp else ()), "fp32")[0], f"amp={amp}"
    return Precision(name, device.type, reason, () if name == "fp32" else meta.fp32_stages)
