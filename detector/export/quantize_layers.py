"""Which layers suffer from 8 bits: each stage is quantized alone and compared with the float
network.

What is compared is what the network says to the decoding, on a few calibration images: the
root-mean-square error relative to the numbers themselves, averaged over levels and towers.  That
costs no evaluation and ranks stages; how many of them must stay in float is for the AP to say
(``quantize.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .quantize_graph import FloatGraph, Ranges
from .quantize_ranges import network_of, open_session


@dataclass(frozen=True)
class Effect:
    """What quantizing one stage alone does.  error: relative, 0 is none.  layers: its
    convolutions."""

    stage: str
    layers: tuple[str, ...]
    error: float


def measure_effects(
    graph: FloatGraph,
    ranges: Ranges,
    inputs: Sequence[np.ndarray],
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Effect]:
    """The effect of every stage, the worst first.  inputs: batches as the file takes them."""
    wanted = answers_of(network_of(graph), inputs)
    effects = []
    for done, (stage, layers) in enumerate(graph.stages.items(), 1):
        alone = graph.quantized(ranges, layers)
        found = answers_of(_cut_to(alone, graph), inputs)
        effects.append(Effect(stage, layers, relative_error(wanted, found)))
        if on_progress is not None:
            on_progress(done, len(graph.stages))
    return sorted(effects, key=lambda effect: -effect.error)


def _cut_to(model: Any, graph: FloatGraph) -> Any:
    """``model`` with the ends of the network as its only outputs."""
    from onnx.utils import Extractor

    return Extractor(model).extract_model([model.graph.input[0].name], list(graph.ends))


def answers_of(model: Any, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What each output of a ModelProto says, over all inputs."""
    session = open_session(model.SerializeToString())
    rows = [session.run(None, {"images": images}) for images in inputs]
    return [np.concatenate([each.ravel() for each in column]) for column in zip(*rows, strict=True)]


def relative_error(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Root of the mean squared error over that of the numbers, averaged over outputs."""
    errors = []
    for one, other in zip(wanted, found, strict=True):
        scale = float(np.sqrt(np.mean(np.square(one, dtype=np.float64))))
        error = float(np.sqrt(np.mean(np.square(one - other, dtype=np.float64))))
        errors.append(error / max(scale, 1e-12))
    return float(np.mean(errors))
