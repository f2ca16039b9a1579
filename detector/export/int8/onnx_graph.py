"""A float ONNX graph and its quantized form.

Layers are convolutions.  SiLU stays in float, as one operation of ONNX Runtime, and so does
attention (MatMul), which is small here and would lose the most accuracy.

Quantized tensors get a QuantizeLinear and a DequantizeLinear (QDQ), written by ONNX Runtime's
quantizer: int8 weights with a symmetric scale per output channel; uint8 activations with a scale
and a zero point per tensor, which is what the VNNI instructions of x86 multiply.
"""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .network import Network

LAYER = "Conv"
PASSTHROUGH = ("Add", "Concat", "MaxPool", "AveragePool", "Resize", "Split")
SILU = "QuickGelu"
"""x * sigmoid(alpha * x), see ``_fuse_silu``."""
RUNTIME = "com.microsoft"
"""Its operator domain."""
Ranges = Mapping[str, tuple[float, float]]
"""Name of a tensor -> smallest and largest value that 8 bits represent."""


class FloatGraph(Network):
    """A float ONNX model.

    model: its ModelProto, which ``quantized`` copies.  fused: SiLU is one operation of ONNX
    Runtime.
    """

    LAYERS = (LAYER,)
    PASSTHROUGH = PASSTHROUGH
    QUANTIZED: ClassVar[tuple[str, ...]] = (LAYER, *PASSTHROUGH)

    def __init__(self, path: Path, *, fused: bool = True) -> None:
        import onnx

        # as torch wrote it: ONNX Runtime's preparation folds constants whatever they grow to
        self.model = onnx.load(path)
        if fused:
            _fuse_silu(self.model)
        self._sizes = {t.name: int(np.prod(t.dims)) for t in self.model.graph.initializer}
        super().__init__(path, list(self.model.graph.node))

    @staticmethod
    def stage_of(operation: Any) -> str:
        """From the name of its weight; in the head, one tower of one level."""
        parts = operation.input[1].removeprefix("model.").removesuffix(".weight").split(".")
        if parts[-1] == "conv":
            parts = parts[:-1]
        return ".".join(parts[: 4 if parts[0] == "head" else 3])

    def numbers(self, operation: Any) -> int:
        return self._sizes[operation.input[1]]

    def quantized(self, ranges: Ranges, layers: Collection[str], *, outputs: bool = True) -> Any:
        """A ModelProto with QDQ around ``layers`` and the operations between them.

        outputs: quantize outputs too, which ONNX Runtime needs for fusing; False: only inputs of
        convolutions, which lets OpenVINO fuse more.
        """
        from onnx import ModelProto
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        model = ModelProto()
        model.CopyFrom(self.model)
        names = [*layers, *(self.passthrough(layers) if outputs else ())]
        spread = {k: (np.float32(a), np.float32(b)) for k, (a, b) in self._trim(ranges).items()}
        types = list(self.QUANTIZED)
        options = {} if outputs else {"OpTypesToExcludeOutputQuantization": types}
        with silent():
            quantizer = QDQQuantizer(
                model, True, False, QuantType.QInt8, QuantType.QUInt8,
                TensorsData(CalibrationMethod.MinMax, spread), names, [], types, options,
            )  # fmt: skip
            quantizer.quantize_model()
            quantizer.model.topological_sort()
            return quantizer.model.model

    def _trim(self, ranges: Ranges) -> dict[str, tuple[float, float]]:
        """Ranges without the inputs that SiLU maps to less than a quarter of a step from 0: steps
        spent on them would be wasted."""
        cut = dict(ranges)
        for node in self.model.graph.node:
            entering, leaving = node.input[0] if node.input else "", node.output[0]
            if node.op_type == SILU and entering in cut and leaving in cut:
                low, high = cut[entering]
                below, above = cut[leaving]
                cut[entering] = (max(low, silu_floor((above - below) / 255)), high)
        return cut


def silu_floor(step: float) -> float:
    """The largest x below which |SiLU| is less than a quarter of ``step``."""
    x = np.linspace(-30.0, -1.28, 2873)  # SiLU has its minimum at -1.278
    small = np.abs(x / (1 + np.exp(-x))) < step / 4
    return float(x[small][-1]) if small.any() else -30.0


def _fuse_silu(model: Any) -> None:
    """Replace x * sigmoid(x) by one operation of ONNX Runtime, in place.

    ONNX Runtime fuses these itself, but not where x is quantized: each reader of x then has its own
    DequantizeLinear, and the pattern no longer matches.  One float operation is faster and more
    exact than a quantized Sigmoid and a quantized Mul.
    """
    from onnx import helper

    users = defaultdict(list)
    for node in model.graph.node:
        for source in node.input:
            users[source].append(node)
    gone = []
    for node in model.graph.node:
        rest = users[node.output[0]]
        if node.op_type != "Sigmoid" or len(rest) != 1 or rest[0].op_type != "Mul":
            continue
        x, mul = node.input[0], rest[0]
        if x in mul.input:
            outputs = list(mul.output)
            fused = helper.make_node(SILU, [x], outputs, mul.name, domain=RUNTIME, alpha=1.0)
            mul.CopyFrom(fused)
            gone.append(node)
    for node in gone:
        model.graph.node.remove(node)
    if gone:
        model.opset_import.append(helper.make_opsetid(RUNTIME, 1))


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Silence the progress output of ONNX Runtime's tools; errors are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(before)
