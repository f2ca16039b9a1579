"""Networks of TFLite files, quantized by Google's LiteRT quantizer, operation by operation.

Weights are int8 with a symmetric scale per output channel; activations int8 with a scale and a zero
point.  All layers but the last are in integers, except attention's products and softmax.  SiLU is
too (a table and a product), since float after every layer would cost two conversions.  Inputs and
outputs stay float32.  The quantizer's calibration knows minmax only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from ..formats import tflite
from ..formats.interface import Settings
from ..graph import ExportGraph
from .network import Network, OnProgress

BITS = 8


@dataclass(frozen=True)
class Operation:
    """One operation of the model.  name: the detector module of its weight, or its scope.  scope:
    its name in recipes.  input, output: tensors without constants.  numbers: size of its weight."""

    name: str
    op_type: str
    scope: str
    input: tuple[str, ...]
    output: tuple[str, ...]
    numbers: int


class TfliteNetwork(Network):
    """The network of a float TFLite file without metadata.  texts: metadata of its float copy."""

    LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D")
    PASSTHROUGH = (
        "LOGISTIC", "MUL", "ADD", "CONCATENATION", "AVERAGE_POOL_2D", "MAX_POOL_2D", "PAD",
        "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SPLIT",
    )  # fmt: skip
    FIRST_IN_FLOAT = False

    def __init__(self, source: Path, texts: Mapping[str, str]) -> None:
        super().__init__(source, operations_of(source, self.LAYERS))
        self.texts = texts

    @classmethod
    def from_graph(
        cls, graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]
    ) -> Self:
        """As litert-torch converts it."""
        source = path.with_suffix(".tflite")
        tflite.convert(graph, source, settings)
        return cls(source, texts)

    @staticmethod
    def stage_of(operation: Operation) -> str:
        """By the name of its weight; in the head, a level of a branch."""
        return ".".join(operation.name.split(".")[:3])

    def numbers(self, operation: Operation) -> int:
        return operation.numbers

    def find_ranges(
        self, inputs: Sequence[np.ndarray], method: str, on_progress: OnProgress | None = None
    ) -> dict[str, Any]:
        """Ranges of all tensors, as the quantizer takes them."""
        from litert_quantizer.calibrator import CalibrationMode, Calibrator
        from litert_quantizer.recipe_manager import RecipeManager
        from litert_quantizer.utils.qsv_utils import min_max_update

        assert method == "minmax"
        calibrator = Calibrator(
            str(self.source),
            num_threads=torch.get_num_threads(),
            mode=CalibrationMode.CALIBRATION_PROFILER_BASED,
            qsv_update_func=min_max_update,
        )
        ((signature, sides),) = calibrator.get_signature_list().items()
        (name,) = sides["inputs"]
        for done, images in enumerate(inputs, 1):
            with tflite.quiet():
                calibrator.calibrate({signature: [{name: images}]}, RecipeManager())
            if on_progress is not None:
                on_progress(done, len(inputs))
        return dict(calibrator.get_model_qsvs())

    def outputs(
        self, ranges: Any, layers: Collection[str], inputs: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """As LiteRT computes them, one array per tensor of ``ends``."""
        path = self.source
        if layers:
            path = self.source.with_name("part.tflite")
            self._round(ranges, layers, path)
        return run_all(path, self.ends, inputs)

    def save(
        self, ranges: Any, layers: Collection[str], path: Path, texts: Mapping[str, str]
    ) -> None:
        """Quantized, with metadata."""
        self._round(ranges, layers, path)
        tflite.add_texts(path, texts)

    def _round(self, ranges: Any, layers: Collection[str], path: Path) -> None:
        exactly = self.scopes({*layers, *self.passthrough(layers)})
        tflite.rewrite(
            self.source, path, lambda it: it.add_static_config(exactly, "*", BITS, BITS), ranges
        )

    def scopes(self, names: Collection[str]) -> str:
        """What recipes call these operations: a regular expression."""
        found = [re.escape(each.scope) for each in self.operations if each.name in names]
        return f"^(?:{'|'.join(found)})$"

    def save_weights(self, path: Path, texts: Mapping[str, str], *, dynamic: bool = False) -> int:
        """Weights are dequantized when the file is loaded; dynamic: never."""
        name = "add_dynamic_config" if dynamic else "add_weight_only_config"
        tflite.rewrite(
            self.source, path, lambda it: getattr(it, name)(tflite.EVERYWHERE, "*", BITS)
        )
        tflite.add_texts(path, texts)
        return len(self.layers) + len(self.fixed)

    def float_copy(self) -> Path:
        """A copy with texts."""
        path = self.source.with_name("float_copy.tflite")
        path.write_bytes(self.source.read_bytes())
        tflite.add_texts(path, self.texts)
        return path


def operations_of(source: Path, layers: Collection[str]) -> list[Operation]:
    """The operations of a TFLite file, in order.  layers: those that have weights."""
    from litert_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

    model = flatbuffer.read_model(str(source))
    (graph,) = model.subgraphs
    names = [tensor.name.decode() for tensor in graph.tensors]
    constant = [model.buffers[tensor.buffer].data is not None for tensor in graph.tensors]
    taken: Counter[str] = Counter()
    found = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        kind = str(getattr(flatbuffer.TFL_OP_CODE_TO_NAME.get(code), "value", code))
        name = scope = flatbuffer.get_op_scope(operator, graph.tensors)
        numbers = 0
        if kind in layers:
            weight = operator.inputs[1]
            numbers, name = int(np.prod(graph.tensors[weight].shape)), module_of(names[weight])
            taken[name] += 1
            name += f"#{taken[name]}" if taken[name] > 1 else ""
        inputs = tuple(names[i] for i in operator.inputs if i >= 0 and not constant[i])
        outputs = tuple(names[i] for i in operator.outputs)
        found.append(Operation(name, kind, scope, inputs, outputs, numbers))
    return found


def module_of(tensor: str) -> str:
    """``backbone.stem`` for the weight ``x.Detector_model/y.Backbone_backbone/z.Conv_stem/
    torch.nn.modules.conv.Conv2d_conv;``: classes and the names that they have in their owners."""
    parts = [part.rpartition(".") for part in tensor.split(";")[0].split("/")]
    owners = [name.partition("_")[2] for package, _, name in parts if package]
    return ".".join(each for each in owners if each not in ("", "model", "conv")) or tensor


def run_all(path: Path, ends: Sequence[str], inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Values of the tensors ``ends`` of a TFLite file, flat, over all inputs."""
    rows = list(run_through(path, ends, inputs))
    return [np.concatenate([each.ravel() for each in column]) for column in zip(*rows, strict=True)]


def run_through(
    path: Path, ends: Sequence[str], inputs: Sequence[np.ndarray]
) -> Iterator[list[np.ndarray]]:
    """Values of the tensors ``ends``, input by input."""
    from ai_edge_litert.interpreter import Interpreter

    with tflite.quiet():
        interpreter = Interpreter(
            model_path=str(path),
            num_threads=torch.get_num_threads(),
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
    index = {each["name"]: each["index"] for each in interpreter.get_tensor_details()}
    source = interpreter.get_input_details()[0]["index"]
    for images in inputs:
        interpreter.set_tensor(source, images)
        interpreter.invoke()
        yield [interpreter.get_tensor(index[name]) for name in ends]
