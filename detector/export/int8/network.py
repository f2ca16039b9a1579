"""A float network whose layers can be quantized: what all formats have in common.

There are three kinds of operations.  Layers have weights: convolutions.  Passthrough operations
between layers have none (addition, concatenation, pooling, resizing, split); they are quantized
where a layer before and a layer after them is.  Everything else stays in float, above all box
decoding and the choice of detections.  The last layers stay in float too, and the first layer where
the format gains nothing from quantizing it (REASONS).

A subclass per format knows the operations and the quantizer: ``onnx.py``, ``tflite.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from ...options.formats import ExportError
from ..formats.interface import Settings
from ..graph import ExportGraph

REASONS = {
    "first": "reads the image: three channels do not fill the integer units",
    "last": "its outputs are boxes and scores: an 8-bit step of a side is more than half a pixel",
}
"""Why a layer is never quantized."""
OnProgress = Callable[[int, int], None]


class Network(ABC):
    """A float model, ready to be quantized.

    source: its file.  operations: in order, each with ``name``, ``op_type`` and the names of its
    ``input`` and ``output`` tensors.

    stages: block -> names of its quantizable layers, in order.  fixed: layer that stays in float ->
    why.  ends: outputs of the last layers, before decoding.  Raises ExportError where no layer is
    quantizable.
    """

    LAYERS: ClassVar[tuple[str, ...]]
    PASSTHROUGH: ClassVar[tuple[str, ...]]
    FIRST_IN_FLOAT: ClassVar[bool] = True

    def __init__(self, source: Path, operations: Sequence[Any]) -> None:
        self.source = source
        self.operations = operations
        self.producer = {output: each for each in operations for output in each.output}
        self.users: dict[str, list[Any]] = defaultdict(list)
        for operation in operations:
            for name in operation.input:
                self.users[name].append(operation)
        self.before = {each.name: self._nearest(each, back=True) for each in operations}
        self.after = {each.name: self._nearest(each, back=False) for each in operations}
        self.fixed: dict[str, str] = {}
        self.stages: dict[str, tuple[str, ...]] = {}
        ends = []
        for operation in operations:
            if operation.op_type not in self.LAYERS:
                continue
            name, stage = operation.name, self.stage_of(operation)
            if not self.after[name]:
                self.fixed[name] = REASONS["last"]
                ends.append(operation.output[0])
            elif self.FIRST_IN_FLOAT and not self.before[name]:
                self.fixed[name] = REASONS["first"]
            else:
                self.stages[stage] = (*self.stages.get(stage, ()), name)
        self.ends = tuple(ends)
        if not self.stages:
            raise ExportError("int8: there is no layer to quantize between the first and the last")

    @classmethod
    @abstractmethod
    def from_graph(
        cls, graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]
    ) -> Self:
        """Write ``graph`` as a float file and load it.  path: without suffix."""

    def _nearest(self, operation: Any, *, back: bool) -> set[str]:
        """The nearest layers before or after an operation."""
        found: set[str] = set()
        seen, pending = set(), [operation]
        while pending:
            at = pending.pop()
            names = at.input if back else at.output
            near = [self.producer.get(n) for n in names] if back else [
                user for n in names for user in self.users[n]
            ]  # fmt: skip
            for other in near:
                if other is None or other.name in seen:
                    continue
                seen.add(other.name)
                if other.op_type in self.LAYERS:
                    found.add(other.name)
                else:
                    pending.append(other)
        return found

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all quantizable layers."""
        return tuple(name for names in self.stages.values() for name in names)

    def passthrough(self, layers: Collection[str]) -> list[str]:
        """Passthrough operations between ``layers``.  The image counts as a layer where the first
        layer is quantized."""
        chosen = set(layers)
        return [
            each.name
            for each in self.operations
            if each.op_type in self.PASSTHROUGH
            and self._joins(self.before[each.name], chosen, image=not self.FIRST_IN_FLOAT)
            and self._joins(self.after[each.name], chosen)
        ]

    @staticmethod
    def _joins(near: set[str], chosen: set[str], *, image: bool = False) -> bool:
        return bool(near & chosen) or (image and not near)

    def weights(self, layers: Collection[str]) -> int:
        """Number of weights of ``layers``."""
        return sum(self.numbers(each) for each in self.operations if each.name in layers)

    @staticmethod
    @abstractmethod
    def stage_of(operation: Any) -> str:
        """The block that a layer belongs to: ``backbone.stage3.mix``."""

    @abstractmethod
    def numbers(self, operation: Any) -> int:
        """Number of weights of one layer."""

    @abstractmethod
    def find_ranges(
        self, inputs: Sequence[np.ndarray], method: str, on_progress: OnProgress | None = None
    ) -> Any:
        """Value range of each tensor over ``inputs``.  method: one of ``Format.calibrations``."""

    @abstractmethod
    def outputs(
        self, ranges: Any, layers: Collection[str], inputs: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Values of each of the ``ends`` over all inputs, with ``layers`` in 8 bits."""

    @abstractmethod
    def save(
        self, ranges: Any, layers: Collection[str], path: Path, texts: Mapping[str, str]
    ) -> None:
        """Write ``path`` with ``layers`` and the operations between them in 8 bits."""

    @abstractmethod
    def save_weights(self, path: Path, texts: Mapping[str, str], *, dynamic: bool = False) -> int:
        """Write ``path`` with weights stored in 8 bits; returns the number of layers.  dynamic:
        layers compute in 8 bits, with inputs quantized at run time."""

    @abstractmethod
    def float_copy(self) -> Path:
        """The float network in the same format and with the same metadata, for comparison."""
