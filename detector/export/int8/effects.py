"""Sensitivity of stages to 8 bits: each stage is quantized alone and compared with the float
network.

Compared are the outputs of the last layers on a few calibration images: the root-mean-square error
relative to the outputs, averaged over levels and towers.  That ranks stages without an evaluation;
the AP decides how many of them stay in float (``search.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .network import Network, OnProgress


@dataclass(frozen=True)
class Effect:
    """Error of quantizing one stage alone.  error: relative to the outputs.  layers: of the stage.
    """

    stage: str
    layers: tuple[str, ...]
    error: float


def measure_effects(
    network: Network,
    ranges: Any,
    inputs: Sequence[np.ndarray],
    on_progress: OnProgress | None = None,
) -> list[Effect]:
    """The effect of every stage, worst first.  inputs: batches as the file takes them."""
    wanted = network.outputs(ranges, (), inputs)
    effects = []
    for done, (stage, layers) in enumerate(network.stages.items(), 1):
        found = network.outputs(ranges, layers, inputs)
        effects.append(Effect(stage, layers, relative_error(wanted, found)))
        if on_progress is not None:
            on_progress(done, len(network.stages))
    return sorted(effects, key=lambda effect: -effect.error)


def relative_error(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """RMS of the error over RMS of ``wanted``, averaged over outputs."""
    errors = []
    for one, other in zip(wanted, found, strict=True):
        scale = float(np.sqrt(np.mean(np.square(one, dtype=np.float64))))
        error = float(np.sqrt(np.mean(np.square(one - other, dtype=np.float64))))
        errors.append(error / max(scale, 1e-12))
    return float(np.mean(errors))
