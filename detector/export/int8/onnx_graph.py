"""A float ONNX graph as layers that can become 8-bit integers, and the graph with them.

Layers are convolutions.  Beside what always stays in float (``quantize_network.py``), SiLU and
attention do: SiLU is one operation of ONNX Runtime between two layers.

Quantized tensors get a QuantizeLinear and a DequantizeLinear (QDQ), written by ONNX Runtime's own
quantizer: int8 weights with a scale an output channel, symmetric; uint8 activations with a scale
and a zero point, which is what the VNNI instructions of x86 multiply.

Left out: MatMul layers and their attention, which are small here and lose most.
"""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from .network import Network

LAYER = "Conv"
GLUE = ("Add", "Concat", "MaxPool", "AveragePool", "Resize", "Split")
SILU = "QuickGelu"
"""x * sigmoid(alpha * x): an operation of ONNX Runtime, see ``_fuse_silu``."""
RUNTIME = "com.microsoft"
"""Where it is defined."""
Ranges = Mapping[str, tuple[float, float]]
"""Name of a tensor -> smallest and largest number that 8 bits are spread over."""


class FloatGraph(Network):
    """A float ONNX model.

    model: the prepared ModelProto; it is copied, never changed, by ``quantized``.  fused: SiLU is
    one operation of ONNX Runtime's own.
    """

    LAYERS = (LAYER,)
    GLUE = GLUE

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
        """By the name of its weight; in the head, a tower of a level."""
        parts = operation.input[1].removeprefix("model.").removesuffix(".weight").split(".")
        if parts[-1] == "conv":
            parts = parts[:-1]
        return ".".join(parts[: 4 if parts[0] == "head" else 3])

    def numbers(self, operation: Any) -> int:
        return self._sizes[operation.input[1]]

    def quantized(self, ranges: Ranges, layers: Collection[str], *, answers: bool = True) -> Any:
        """A ModelProto in which ``layers`` and the glue between them are in QDQ.

        answers: whether what layers and glue say is quantized too, as ONNX Runtime wants it; False:
        only what enters a convolution, so that a runtime that fuses more (OpenVINO) is free to.
        """
        from onnx import ModelProto
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        model = ModelProto()
        model.CopyFrom(self.model)
        names = [*layers, *(self.glue(layers) if answers else ())]
        spread = {k: (np.float32(a), np.float32(b)) for k, (a, b) in self._cut(ranges).items()}
        types = [LAYER, *GLUE]
        options = {} if answers else {"OpTypesToExcludeOutputQuantization": types}
        with silent():
            quantizer = QDQQuantizer(
                model, True, False, QuantType.QInt8, QuantType.QUInt8,
                TensorsData(CalibrationMethod.MinMax, spread), names, [], types, options,
            )  # fmt: skip
            quantizer.quantize_model()
            quantizer.model.topological_sort()
            return quantizer.model.model

    def _cut(self, ranges: Ranges) -> dict[str, tuple[float, float]]:
        """Ranges without what SiLU makes nothing of: below a point, what comes out is less than a
        quarter of a step from 0, and steps spent there are lost."""
        cut = dict(ranges)
        for node in self.model.graph.node:
            entering, leaving = node.input[0] if node.input else "", node.output[0]
            if node.op_type == SILU and entering in cut and leaving in cut:
                low, high = cut[entering]
                below, above = cut[leaving]
                cut[entering] = (max(low, silu_floor((above - below) / 255)), high)
        return cut


def silu_floor(step: float) -> float:
    """The largest x below which SiLU is nearer to 0 than a quarter of ``step``."""
    x = np.linspace(-30.0, -1.28, 2873)  # SiLU falls up to -1.278
    small = np.abs(x / (1 + np.exp(-x))) < step / 4
    return float(x[small][-1]) if small.any() else -30.0


def _fuse_silu(model: Any) -> None:
    """Write x * sigmoid(x) as one operation of ONNX Runtime, in place.

    It would do so itself, but not behind a quantized x: there it gives each user of x a
    DequantizeLinear of its own, and x is no longer seen to be x.  One operation in float is faster
    and more exact than a quantized Sigmoid and a quantized Mul.
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
            said = list(mul.output)
            mul.CopyFrom(helper.make_node(SILU, [x], said, mul.name, domain=RUNTIME, alpha=1.0))
            gone.append(node)
    for node in gone:
        model.graph.node.remove(node)
    if gone:
        model.opset_import.append(helper.make_opsetid(RUNTIME, 1))


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """ONNX Runtime's tools print and log as they go; what goes wrong is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(before)
