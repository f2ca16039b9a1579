"""Which layers suffer from 8 bits: each stage is quantized alone and compared with the float
network.

What is compared is what the network says to the decoding, on a few calibration images: the
root-mean-square error relative to the numbers themselves, averaged over levels and towers.  That
costs no evaluation and ranks stages; how many of them must stay in float is for the AP to say
(``quantize_search.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .network import Network, OnProgress


@dataclass(frozen=True)
class Effect:
    """What quantizing one stage alone does.  error: relative, 0 is none.  layers: its
    convolutions."""

    stage: str
    layers: tuple[str, ...]
    error: float


def measure_effects(
    network: Network,
    ranges: Any,
    inputs: Sequence[np.ndarray],
    on_progress: OnProgress | None = None,
) -> list[Effect]:
    """The effect of every stage, the worst first.  inputs: batches as the file takes them."""
    wanted = network.answers(ranges, (), inputs)
    effects = []
    for done, (stage, layers) in enumerate(network.stages.items(), 1):
        found = network.answers(ranges, layers, inputs)
        effects.append(Effect(stage, layers, relative_error(wanted, found)))
        if on_progress is not None:
            on_progress(done, len(network.stages))
    return sorted(effects, key=lambda effect: -effect.error)


def relative_error(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Root of the mean squared error over that of the numbers, averaged over outputs."""
    errors = []
    for one, other in zip(wanted, found, strict=True):
        scale = float(np.sqrt(np.mean(np.square(one, dtype=np.float64))))
        error = float(np.sqrt(np.mean(np.square(one - other, dtype=np.float64))))
        errors.append(error / max(scale, 1e-12))
    return float(np.mean(errors))
