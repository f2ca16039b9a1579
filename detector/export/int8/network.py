"""A float network as layers that can become 8-bit integers: what every format has in common.

Thinks in three kinds of operations.  Layers have weights: convolutions.  Glue stands between layers
and passes on what they say (additions, concatenations, pooling, resizing, splits); it goes where
its neighbours go.  All else stays in float, above all what stands behind the last layers: the
decoding of boxes and the choice of detections.  The last layers stay in float too, and the first
where the format gains nothing from it (REASONS).

How a format names its operations, what is glue in it, and who rounds its numbers is a subclass:
``quantize_onnx.py``, ``quantize_tflite.py``.
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
    "last": "its numbers are the boxes and scores: 8 bits of a side are more than half a pixel",
}
"""Why a layer is never quantized."""
OnProgress = Callable[[int, int], None]


class Network(ABC):
    """A float model, ready to be quantized.

    operations: in order, each with ``name``, ``op_type``, ``input`` and ``output``, the names of
    the tensors that it reads and makes.  source: the file they are from.

    stages: name of a block -> names of its layers that may be quantized, in order.  fixed: name of
    a layer that stays in float -> why.  ends: tensors between the network and what makes detections
    of it.  Raises ExportError where no layer is left.
    """

    LAYERS: ClassVar[tuple[str, ...]]
    GLUE: ClassVar[tuple[str, ...]]
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
    def written(
        cls, graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]
    ) -> Self:
        """The network of a float file that is written for this.  path: without its suffix."""

    def _nearest(self, operation: Any, *, back: bool) -> set[str]:
        """Layers before or after an operation with none between."""
        found: set[str] = set()
        seen, open_ones = set(), [operation]
        while open_ones:
            at = open_ones.pop()
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
                    open_ones.append(other)
        return found

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers that may be quantized."""
        return tuple(name for names in self.stages.values() for name in names)

    def glue(self, layers: Collection[str]) -> list[str]:
        """Glue that has one of ``layers`` near it on both sides; where the first layer is in 8 bits
        too, the image is one side."""
        chosen = set(layers)
        return [
            each.name
            for each in self.operations
            if each.op_type in self.GLUE
            and self._joins(self.before[each.name], chosen, image=not self.FIRST_IN_FLOAT)
            and self._joins(self.after[each.name], chosen)
        ]

    @staticmethod
    def _joins(near: set[str], chosen: set[str], *, image: bool = False) -> bool:
        return bool(near & chosen) or (image and not near)

    def weights(self, layers: Collection[str]) -> int:
        """How many numbers the weights of ``layers`` are."""
        return sum(self.numbers(each) for each in self.operations if each.name in layers)

    @staticmethod
    @abstractmethod
    def stage_of(operation: Any) -> str:
        """The block that a layer belongs to: ``backbone.stage3.mix``."""

    @abstractmethod
    def numbers(self, operation: Any) -> int:
        """How many numbers the weight of a layer is."""

    @abstractmethod
    def find_ranges(
        self, inputs: Sequence[np.ndarray], method: str, on_progress: OnProgress | None = None
    ) -> Any:
        """What the numbers of each tensor span while the network looks at ``inputs``.  method: one
        of the format's ``calibrations``."""

    @abstractmethod
    def answers(
        self, ranges: Any, layers: Collection[str], inputs: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """What each of the ``ends`` says with ``layers`` (none: all is float) in 8 bits, over all
        inputs."""

    @abstractmethod
    def save(
        self, ranges: Any, layers: Collection[str], path: Path, texts: Mapping[str, str]
    ) -> None:
        """Write ``path`` with ``layers`` and the glue between them in 8 bits."""

    @abstractmethod
    def save_weights(self, path: Path, texts: Mapping[str, str], *, dynamic: bool = False) -> int:
        """Write ``path`` with only the weights stored in 8 bits; returns of how many layers.
        dynamic: layers compute in 8 bits all the same, with what comes in rounded on the fly.
        """

    @abstractmethod
    def twin(self) -> Path:
        """The float network as a file of the same format, with the same texts, to be compared
        with."""
