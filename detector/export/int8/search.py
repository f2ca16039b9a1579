"""Search for the fewest stages that must stay in float so that the AP holds.

Where the AP on ``data=`` drops by more than ``max_drop``, stages are ranked by the error that each
causes alone (``effects.py``), and the worst go back to float: 1, 2, 4 ... of them, then a bisection
finds the fewest that hold.  If more than half of the weights would stay in float, the export fails.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....files.counted import counted
from ...options.formats import DYNAMIC, FULL
from ...run.log import Log
from ..exported import open_exported
from ..proof.examiner import Examiner
from ..proof.parity import Parity, Tolerance
from .effects import Effect, measure_effects
from .network import Network

CPU = torch.device("cpu")
MOST_LEFT = 0.5
"""Largest share of weights in float."""


class Search:
    """Writes one quantized file.

    path: the file.  parity: of the file that was written last.
    """

    def __init__(
        self,
        network: Network,
        path: Path,
        texts: Mapping[str, str],
        examiner: Examiner,
        tolerance: Tolerance,
        log: Log,
    ) -> None:
        self.network, self.path, self.texts = network, path, texts
        self.examiner, self.tolerance, self.log = examiner, tolerance, log
        self.parity: Parity | None = None
        self.trials: list[dict[str, Any]] = []

    def run(self, ranges: Any, inputs: Sequence[np.ndarray], max_drop: float) -> dict[str, Any]:
        """Write the best file to ``path``; returns its description as plain data."""
        effects: list[Effect] = []
        count = 0
        if not self._holds(ranges, [], max_drop):
            with self.log.progress("effect of each stage", len(self.network.stages)) as update:
                effects = measure_effects(self.network, ranges, inputs, update)
            count = self._fewest(ranges, effects, max_drop)
        left = effects[:count]
        layers = self._without(left)
        return {
            "kind": FULL,
            "layers": len(layers),
            "weights": self.network.weights(layers) / self.network.weights(self._all()),
            "float": [
                *({"layer": name, "why": why} for name, why in self.network.fixed.items()),
                *({"stage": e.stage, "error": e.error,
                   "why": f"alone it changes the outputs by {e.error:.1%}"} for e in left),
            ],
            "effects": [asdict(effect) for effect in effects],
            "trials": self.trials,
        }

    def all_layers(self, ranges: Any) -> dict[str, Any]:
        """Quantize every layer, by the ranges of the checkpoint."""
        self.network.save(ranges, self._all(), self.path, self.texts)
        self._compare()
        return {"kind": FULL, "layers": len(self._all()), "weights": 1.0, "float": [], "trials": []}

    def weights_only(self, kind: str) -> dict[str, Any]:
        """Quantize without calibration.  kind: WEIGHTS or DYNAMIC."""
        count = self.network.save_weights(self.path, self.texts, dynamic=kind == DYNAMIC)
        self._compare()
        return {"kind": kind, "layers": count, "float": [], "trials": []}

    def _fewest(self, ranges: Any, effects: Sequence[Effect], max_drop: float) -> int:
        """How many of ``effects`` stay in float; leaves that file at ``path``.  Called when
        the file with all of them in 8 bits has failed."""
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
        """How many of ``effects`` may stay in float within MOST_LEFT, beside the fixed layers."""
        room = MOST_LEFT * self.network.weights(self._all())
        names = set(self.network.fixed)
        for count, effect in enumerate(effects, 1):
            names.update(effect.layers)
            if self.network.weights(names) > room:
                return count - 1
        return len(effects) - 1

    def _all(self) -> list[str]:
        return [*self.network.layers, *self.network.fixed]

    def _without(self, left: Collection[Effect]) -> list[str]:
        names = {name for effect in left for name in effect.layers}
        return [name for name in self.network.layers if name not in names]

    def _holds(self, ranges: Any, left: Collection[Effect], max_drop: float) -> bool:
        """Write the file with ``left`` in float; returns whether its AP is good enough."""
        layers = self._without(left)
        self.network.save(ranges, layers, self.path, self.texts)
        self._compare()
        assert self.parity is not None and self.parity.ap is not None
        before, after = self.parity.ap
        self.trials.append({"left": [effect.stage for effect in left], "ap": after})
        stages = counted(len(left), "stage")
        self.log.info(f"{stages} in float: AP {after:.4f}, checkpoint {before:.4f}")
        return before - after <= max_drop

    def _compare(self) -> None:
        self.parity = self.examiner.compare(open_exported(self.path, CPU), self.tolerance)
