"""int8=True: a file whose layers compute in 8-bit integers, and what that costs and gives.

The float ONNX graph is calibrated once (``quantize_ranges.py``) and written in 8 bits
(``quantize_graph.py``).  The AP on ``data=`` is the judge: where it drops by more than
``max_drop``, stages are ranked by the error that each causes alone (``quantize_layers.py``), and
the worst go back to float: 1, 2, 4 ... of them, then by halves to the fewest that hold.  A file
with more than half of its weights in float is none in 8 bits; then the search ends, and the file
has failed.

OpenVINO gets the same scales in the places where it can fuse most.  Left out: training with rounded
weights, which mends what calibration can not.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config_export import ExportConfig
from ..log import Log
from . import onnx, openvino
from .examiner import Examiner
from .exported import open_exported
from .formats import FULL, Format
from .graph import ExportGraph
from .interface import Settings
from .parity import TOLERANCES, Parity, Tolerance
from .quantize_graph import FloatGraph, Ranges
from .quantize_layers import Effect, measure_effects
from .quantize_ranges import find_ranges, inputs_of
from .quantize_weights import store_int8
from .speed import take_turns
from .writers import WRITERS

CPU = torch.device("cpu")
MOST_LEFT = 0.5
"""Share of the weights that may stay in float."""
LOOKED_AT = 4
"""Batches on which the effect of a stage, and the speed, are measured."""
ROUNDS, EACH = 5, 4
"""Of the comparison of speed."""


@dataclass(frozen=True)
class Quantized:
    """A file in 8 bits.  parity: beside the checkpoint.  report: what was done, as plain data."""

    parity: Parity
    report: dict[str, Any]


class Quantizer:
    """Writes files in 8 bits of one checkpoint.

    images: [N,3,H,W] uint8 to calibrate with; none are needed for int8=weights.
    """

    def __init__(
        self, config: ExportConfig, images: np.ndarray | None, examiner: Examiner, log: Log
    ) -> None:
        self.config = config
        self.images = images
        self.examiner = examiner
        self.log = log

    def write(
        self,
        row: Format,
        graph: ExportGraph,
        path: Path,
        settings: Settings,
        texts: Mapping[str, str],
    ) -> Quantized:
        """Write ``path`` (new, in a folder of its own), with ``texts`` as its metadata."""
        tolerance = replace(TOLERANCES[settings.precision], ap=self.config.max_drop)
        source = path.with_name("float.onnx")
        onnx.write(graph, source, replace(settings, precision="fp32"), texts)
        search = Search(row, source, path, texts, self.examiner, tolerance, self.log)
        if settings.precision == FULL:
            assert self.images is not None
            shape = settings.shape
            inputs = list(inputs_of(self.images, shape, uint8=graph.uint8))
            found = search.run(self._ranges(search.graph, inputs), inputs[:LOOKED_AT],
                               self.config.max_drop)  # fmt: skip
            found |= {"calibration": self.config.calibration, "images": len(self.images),
                      "seed": self.config.seed, "max_drop": self.config.max_drop}  # fmt: skip
        else:
            found = search.weights_only()
            pictures = self.examiner.images[:LOOKED_AT].numpy()
            inputs = list(inputs_of(pictures, settings.shape, uint8=graph.uint8))
        gain = compare_cost(row, source, path, texts, inputs[:LOOKED_AT])
        assert search.parity is not None
        self._tell(path, found | gain)
        return Quantized(search.parity, found | gain)

    def _ranges(self, graph: FloatGraph, inputs: Sequence[np.ndarray]) -> Ranges:
        with self.log.progress("calibrating", len(inputs)) as update:
            return find_ranges(graph, inputs, self.config.calibration, update, len(inputs))

    def _tell(self, path: Path, report: Mapping[str, Any]) -> None:
        """What it gave, and what was left out for the AP's sake, for people."""
        self.log.info(
            f"{path.name}: {report['size']:.2f}x the size of fp32, "
            f"{report['ms']:.1f} ms instead of {report['fp32_ms']:.1f}: {report['speedup']:.2f}x"
        )
        for entry in report["float"]:
            if "error" in entry:
                self.log.info(f"left in float: {entry['stage']}, {entry['why']}")


class Search:
    """One file, and the fewest stages of it that have to stay in float.

    source: the float ONNX file.  path: the file to write.  parity: of what lies at ``path``.
    """

    def __init__(
        self,
        row: Format,
        source: Path,
        path: Path,
        texts: Mapping[str, str],
        examiner: Examiner,
        tolerance: Tolerance,
        log: Log,
    ) -> None:
        self.row, self.source, self.path, self.texts = row, source, path, texts
        self.examiner, self.tolerance, self.log = examiner, tolerance, log
        self.in_onnx = row.name == "onnx"
        self.graph = FloatGraph(source, fused=self.in_onnx)
        self.parity: Parity | None = None
        self.trials: list[dict[str, Any]] = []

    def run(self, ranges: Ranges, inputs: Sequence[np.ndarray], max_drop: float) -> dict[str, Any]:
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

    def weights_only(self) -> dict[str, Any]:
        """Only store the weights in 8 bits."""
        import onnx as onnx_package

        model = onnx_package.load(self.source)
        count = store_int8(model)
        self._save(model)
        return {"kind": "weights", "layers": count, "float": [], "trials": []}

    def _fewest(self, ranges: Ranges, effects: Sequence[Effect], max_drop: float) -> int:
        """How many of ``effects`` stay in float.  The file at ``path`` is that one."""
        most = self._most(effects)
        fails, count = 0, min(1, most)
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
        """How many may stay in float before too many weights do."""
        room = MOST_LEFT * self.graph.weights(self._all())
        for count in range(1, len(effects) + 1):
            names = {name for effect in effects[:count] for name in effect.layers}
            if self.graph.weights(names) > room:
                return count - 1
        return len(effects) - 1

    def _all(self) -> list[str]:
        return [*self.graph.layers, *self.graph.fixed]

    def _without(self, left: Collection[Effect]) -> list[str]:
        names = {name for effect in left for name in effect.layers}
        return [name for name in self.graph.layers if name not in names]

    def _holds(self, ranges: Ranges, left: Collection[Effect], max_drop: float) -> bool:
        """Write the file with ``left`` in float, and say whether its AP is good enough."""
        layers = self._without(left)
        self._save(self.graph.quantized(ranges, layers, answers=self.in_onnx))
        assert self.parity is not None and self.parity.ap is not None
        before, after = self.parity.ap
        self.trials.append({"left": [effect.stage for effect in left], "ap": after})
        self.log.info(f"{len(left)} stages left in float: AP {after:.4f} beside {before:.4f}")
        return before - after <= max_drop

    def _save(self, model: Any) -> None:
        save_as(self.row, model, self.path, self.texts)
        self.parity = self.examiner.compare(open_exported(self.path, CPU), self.tolerance)


def why_left(effect: Effect) -> str:
    """The reason in words."""
    return f"in 8 bits it alone changes what the network says by {effect.error:.1%}"


def save_as(row: Format, model: Any, path: Path, texts: Mapping[str, str]) -> None:
    """Write a ModelProto as a file of the format."""
    from onnx import checker, helper

    helper.set_model_props(model, dict(texts))
    checker.check_model(model)
    if row.name == "onnx":
        path.write_bytes(model.SerializeToString())
        return
    middle = path.with_name("quantized.onnx")
    middle.write_bytes(model.SerializeToString())
    openvino.convert(middle, path, texts)


def compare_cost(
    row: Format, source: Path, path: Path, texts: Mapping[str, str], inputs: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Size and milliseconds a batch of a file beside its float twin."""
    twin = source
    if row.name == "openvino":
        twin = source.with_name("float.xml")
        openvino.convert(source, twin, texts)
    writer = WRITERS[row.name]
    runners = {name: writer.open_file(at, CPU) for name, at in (("fp32", twin), ("int8", path))}
    seconds = take_turns(runners, dict.fromkeys(runners, inputs), ROUNDS, EACH)
    ms = {name: [1000 * statistics.median(each) for each in mine] for name, mine in seconds.items()}
    sizes = [sum(f.stat().st_size for f in row.files(at)) for at in (twin, path)]
    return {
        "fp32_bytes": sizes[0],
        "bytes": sizes[1],
        "size": sizes[1] / sizes[0],
        "fp32_ms": statistics.median(ms["fp32"]),
        "ms": statistics.median(ms["int8"]),
        "speedup": statistics.median(a / b for a, b in zip(ms["fp32"], ms["int8"], strict=True)),
    }
