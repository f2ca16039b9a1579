"""An ONNX graph in an older operator set.

torch writes from operator set 18 on, and the version converter of ``onnx`` has no way down for the
operators used here.  Between 12 and 18 they only changed how their arguments are passed.  What
cannot be passed in the older way is refused.  Source: the changelog of ONNX's operators.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...options.formats import ExportError

LOWEST, NATIVE = 12, 18
"""The oldest set that can be written, and the one that torch writes."""
AXES_ARE_INPUTS = {
    **dict.fromkeys(("ReduceMax", "ReduceMin", "ReduceMean"), 18),
    **dict.fromkeys(("Squeeze", "Unsqueeze", "ReduceSum"), 13),
}
"""Operator -> the set since which ``axes`` is an input; before, it is an attribute."""
SINCE: dict[tuple[str, str], tuple[int, tuple[Any, ...]]] = {
    ("Split", "num_outputs"): (18, ()),
    ("Resize", "antialias"): (18, (0,)),
    ("Resize", "keep_aspect_ratio_policy"): (18, (b"stretch",)),
    **{(name, "noop_with_empty_axes"): (18, (0,)) for name in AXES_ARE_INPUTS},
    ("Reshape", "allowzero"): (14, ()),  # no array of det is empty, so no side is 0
}  # fmt: skip
"""Attribute -> the set that brought it, and the values that older sets mean; () for any."""


def lower(model: Any, opset: int) -> None:
    """Turn a model of operator set 18 into one of ``opset``, in place.  Raises ExportError."""
    from onnx import numpy_helper

    known = {tensor.name: tensor for tensor in model.graph.initializer}
    known |= {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"}
    for node in model.graph.node:
        _drop_attributes(node, opset)
        name = {"Split": "split"}.get(node.op_type, "axes")
        since = 13 if node.op_type == "Split" else AXES_ARE_INPUTS.get(node.op_type, 0)
        if opset < since and len(node.input) > 1:
            if node.input[1] not in known:
                raise _refusal(node, name, opset)
            _to_attribute(node, name, numpy_helper.to_array(known[node.input[1]]).tolist())
        if opset < 13 and node.op_type == "Softmax":
            _check_softmax(node, opset)
        if opset < 18 and node.op_type == "Pad" and len(node.input) > 3 and node.input[3]:
            raise _refusal(node, "axes", opset)
    if opset < 15:
        _slice_shapes(model.graph)
    model.opset_import[0].version = opset


def _slice_shapes(graph: Any) -> None:
    """``Shape`` of some sides only, which came in 15, as a slice of all."""
    from onnx import helper, numpy_helper

    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "Shape" or not node.attribute:
            continue
        part = {attribute.name: _value(attribute) for attribute in node.attribute}
        name = node.output[0]
        bounds = (part.get("start", 0), part.get("end", np.iinfo(np.int64).max))
        inputs = [f"{name}.all", f"{name}.from", f"{name}.to"]
        graph.initializer.extend(
            numpy_helper.from_array(np.array([bound], np.int64), each)
            for bound, each in zip(bounds, inputs[1:], strict=True)
        )
        del node.attribute[:]
        node.output[0] = inputs[0]
        nodes.append(helper.make_node("Slice", inputs, [name], f"{name}.slice"))
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _drop_attributes(node: Any, opset: int) -> None:
    for attribute in list(node.attribute):
        since, usual = SINCE.get((node.op_type, attribute.name), (0, ()))
        if opset < since:
            if usual and _value(attribute) not in usual:
                raise _refusal(node, attribute.name, opset)
            node.attribute.remove(attribute)


def _to_attribute(node: Any, name: str, value: list[int]) -> None:
    from onnx import helper

    del node.input[1:]
    node.attribute.append(helper.make_attribute(name, value))


def _check_softmax(node: Any, opset: int) -> None:
    """Before 13 it is over all axes from ``axis`` on: the same for the last one."""
    if [_value(attribute) for attribute in node.attribute] not in ([-1], []):
        raise _refusal(node, "axis", opset)


def _value(attribute: Any) -> Any:
    from onnx import helper

    return helper.get_attribute_value(attribute)


def _refusal(node: Any, name: str, opset: int) -> ExportError:
    return ExportError(
        f"opset={opset}: {name} of the operator {node.op_type} cannot be written in this operator "
        f"set; use opset={NATIVE}"
    )
