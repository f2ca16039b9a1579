"""The fewest stages of a network that have to stay in float for its AP to hold.

The AP on ``data=`` is the judge: where it drops by more than ``max_drop``, stages are ranked by the
error that each causes alone (``quantize_layers.py``), and the worst go back to float: 1, 2, 4 ...
of them, then by halves to the fewest that hold.  A file with more than half of its weights in float
is none in 8 bits; then the search ends, and the file has failed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...options.formats import DYNAMIC, FULL
from ...run.log import Log
from ..exported import open_exported
from ..proof.examiner import Examiner
from ..proof.parity import Parity, Tolerance
from .effects import Effect, measure_effects
from .network import Network

CPU = torch.device("cpu")
MOST_LEFT = 0.5
"""Share of the weights that may stay in float."""


class Search:
    """One file, and the fewest stages of it that have to stay in float.

    path: the file to write.  parity: of what lies at ``path``.
    """

    def __init__(
        self,
        graph: Network,
        path: Path,
        texts: Mapping[str, str],
        examiner: Examiner,
        tolerance: Tolerance,
        log: Log,
    ) -> None:
        self.graph, self.path, self.texts = graph, path, texts
        self.examiner, self.tolerance, self.log = examiner, tolerance, log
        self.parity: Parity | None = None
        self.trials: list[dict[str, Any]] = []

    def run(self, ranges: Any, inputs: Sequence[np.ndarray], max_drop: float) -> dict[str, Any]:
        """Leave the best file at ``path`` and say what it is."""
        effects: list[Effect] = []
        count = 0
        if not self._holds(ranges, [], max_drop):
            with self.log.progress("effect of each stage", len(self.graph.stages)) as update:
                effects = measure_effects(self.graph, ranges, inputs, update)
            count = self._fewest(ranges, effects, max_drop)
        left = effects[:count]
        layers = self._without(left)
        return {
            "kind": FULL,
            "layers": len(layers),
            "weights": self.graph.weights(layers) / self.graph.weights(self._all()),
            "float": [
                *({"layer": name, "why": why} for name, why in self.graph.fixed.items()),
                *({"stage": e.stage, "error": e.error, "why": why_left(e)} for e in left),
            ],
            "effects": [asdict(effect) for effect in effects],
            "trials": self.trials,
        }

    def weights_only(self, kind: str) -> dict[str, Any]:
        """Only store the weights in 8 bits.  kind: WEIGHTS or DYNAMIC."""
        count = self.graph.save_weights(self.path, self.texts, dynamic=kind == DYNAMIC)
        self._compare()
        return {"kind": kind, "layers": count, "float": [], "trials": []}

    def _fewest(self, ranges: Any, effects: Sequence[Effect], max_drop: float) -> int:
        """How many of ``effects`` stay in float.  The file at ``path`` is that one; the one without
        any has failed and lies there."""
        most = self._most(effects)
        if most == 0:
            return 0
        fails, count = 0, 1
        while not (holds := self._holds(ranges, effects[:count], max_drop)) and count < most:
            fails, count = count, min(2 * count, most)
        best, at_path = count, count
        while holds and best - fails > 1:
            at_path = (fails + best) // 2
            if self._holds(ranges, effects[:at_path], max_drop):
                best = at_path
            else:
                fails = at_path
        if at_path != best:
            self._holds(ranges, effects[:best], max_drop)
        return best

    def _most(self, effects: Sequence[Effect]) -> int:
        """How many may stay in float before too many weights do, with those that always stay."""
        room = MOST_LEFT * self.graph.weights(self._all())
        names = set(self.graph.fixed)
        for count, effect in enumerate(effects, 1):
            names.update(effect.layers)
            if self.graph.weights(names) > room:
                return count - 1
        return len(effects) - 1

    def _all(self) -> list[str]:
        return [*self.graph.layers, *self.graph.fixed]

    def _without(self, left: Collection[Effect]) -> list[str]:
        names = {name for effect in left for name in effect.layers}
        return [name for name in self.graph.layers if name not in names]

    def _holds(self, ranges: Any, left: Collection[Effect], max_drop: float) -> bool:
        """Write the file with ``left`` in float, and say whether its AP is good enough."""
        layers = self._without(left)
        self.graph.save(ranges, layers, self.path, self.texts)
        self._compare()
        assert self.parity is not None and self.parity.ap is not None
        before, after = self.parity.ap
        self.trials.append({"left": [effect.stage for effect in left], "ap": after})
        self.log.info(f"{len(left)} stages left in float: AP {after:.4f} beside {before:.4f}")
        return before - after <= max_drop

    def _compare(self) -> None:
        self.parity = self.examiner.compare(open_exported(self.path, CPU), self.tolerance)


def why_left(effect: Effect) -> str:
    """The reason in words."""
    return f"in 8 bits it alone changes what the network says by {effect.error:.1%}"
