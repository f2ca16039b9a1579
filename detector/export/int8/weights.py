"""int8=weights: weights are stored in 8 bits, everything is computed in float.

Each large weight becomes int8 with a scale per output channel, and a Cast and a Mul before its
layer.  That is a quarter of the size without calibration and nearly without loss, at the speed of
float: the runtime folds Cast and Mul when it loads the file (a DequantizeLinear it would keep).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .onnx_graph import LAYER

LARGE = 256
"""Smaller weights stay in float."""
MOST = 127
"""Symmetric: -127 to 127."""


def store_int8(model: Any) -> int:
    """Store the weights of convolutions of an ONNX model in int8, in place; returns how many."""
    from onnx import TensorProto, helper, numpy_helper

    wanted = {node.input[1] for node in model.graph.node if node.op_type == LAYER}
    widened = []
    for tensor in list(model.graph.initializer):
        if tensor.name not in wanted or np.prod(tensor.dims) < LARGE:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)  # [O,I,K,K]
        small, scales = quantize_weight(values)
        tensor.CopyFrom(numpy_helper.from_array(small, f"{name}.int8"))
        scales = scales.reshape(-1, *[1] * (values.ndim - 1))  # [O,1,1,1]
        model.graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scale"))
        steps = f"{name}.steps"
        widened += [
            helper.make_node("Cast", [tensor.name], [steps], f"{name}.widen", to=TensorProto.FLOAT),
            helper.make_node("Mul", [steps, f"{name}.scale"], [name], f"{name}.spread"),
        ]
    nodes = [type(node).FromString(node.SerializeToString()) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend([*widened, *nodes])
    return len(widened) // 2


def quantize_weight(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 weights [O,...] and their float32 scales [O]."""
    largest = np.abs(weight).reshape(len(weight), -1).max(1)  # [O]
    scales = np.where(largest > 0, largest / MOST, 1.0).astype(np.float32)
    steps = weight / scales.reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(steps), -MOST, MOST).astype(np.int8), scales
