"""Everything that depends on the length of a run, as pure functions of it.

Fixed constants (3 warm-up epochs, no mosaic in the last 10, an average over 2000 steps) are tuned
for 300 epochs of COCO and break a run of 3, 10 or 30 epochs.  Here each is a share of the run, with
the usual constant as its limit.  ``det config`` shows the values (lengths.py) without torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NOMINAL_BATCH = 16
"""Gradients of smaller batches are accumulated up to it, unless nbs is given."""
FLOOR_STEPS = 300
"""A data set smaller than one batch is repeated until a run has about this many steps."""


@dataclass(frozen=True)
class RunLength:
    """How long a run is: optimizer steps per epoch, and epochs."""

    steps_per_epoch: int
    epochs: int

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs


def repeats_for(num_images: int, batch: int, epochs: int) -> int:
    """How often each image is used per epoch: once, or, if there are fewer images than a batch, as
    often as fills one to three batches, towards FLOOR_STEPS steps per run."""
    if num_images >= batch:
        return 1
    batches = min(max(math.ceil(FLOOR_STEPS / epochs), 1), 3)
    return math.ceil(batches * batch / num_images)


def batches_per_epoch(num_images: int, batch: int, repeats: int) -> int:
    """Batches per epoch; the last one may not be full."""
    return max(math.ceil(num_images * repeats / batch), 1)


def accumulated(batch: int, nbs: int | None) -> int:
    """Batches per optimizer step."""
    return max(round((nbs or NOMINAL_BATCH) / batch), 1)


def run_length(batches: int, batch: int, epochs: int, nbs: int | None) -> RunLength:
    """Length of a run with ``batches`` per epoch."""
    return RunLength(math.ceil(batches / accumulated(batch, nbs)), epochs)


def warmup_steps(run: RunLength, warmup_epochs: float | None) -> int:
    """Steps of rising learning rate: 5 % of the run, at most 3 epochs or 1000 steps, whichever is
    more; or ``warmup_epochs``."""
    if warmup_epochs is not None:
        return round(min(warmup_epochs, run.epochs) * run.steps_per_epoch)
    return min(round(0.05 * run.steps), max(3 * run.steps_per_epoch, 1000))


def close_epoch(run: RunLength, close_mosaic: int | None) -> int:
    """First epoch without mosaic: the last 10 % of the run, at most 15 epochs, are plain; or the
    last ``close_mosaic``."""
    plain = min(round(0.1 * run.epochs), 15) if close_mosaic is None else close_mosaic
    return max(run.epochs - plain, 0)


def ema_constants(run: RunLength, decay: float | None) -> tuple[float, float]:
    """(decay, tau) of the moving average: it covers 3 % of the steps, at most the 10000 of the
    usual 0.9999."""
    horizon = min(max(0.03 * run.steps, 2.0), 10_000.0)
    return (1.0 - 1.0 / horizon if decay is None else decay), min(max(horizon, 1.0), 2000.0)


def batch_norm_momentum(run: RunLength) -> float:
    """Momentum of batch-norm statistics: 0.1 in a short run, 0.03 (the family's) in a long one.

    Statistics cover 1 / momentum steps; 33 steps are a quarter of a run of 130.
    """
    return min(max(130 / run.steps, 0.03), 0.1)


def lr_factor(step: int, *, steps: int, warmup: int, final: float, shape: str) -> float:
    """Learning rate at ``step`` as a share of the peak: linear from 1/warmup to 1, then ``shape``
    down to ``final``.

    linear: straight to the end.  cosine: half a cosine.  flat_cosine: flat to the middle of the
    run, then half a cosine (RTMDet, Lyu et al. 2022, arXiv 2212.07784, section 4).
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = min((step - warmup) / max(steps - warmup, 1), 1.0)
    if shape == "linear":
        return 1.0 - (1.0 - final) * progress
    if shape == "flat_cosine":
        progress = max(2.0 * progress - 1.0, 0.0)
    return final + (1.0 - final) * (1.0 + math.cos(math.pi * progress)) / 2
