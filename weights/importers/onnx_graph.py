"""The convolutions of an ONNX file: their numbers, and which of them follows which.

Nothing in the file is run.  Which model the convolutions belong to is found out in
``detector/checkpoints/recognize.py``: names in an ONNX file are often numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ImportFailed

INPUT = -1
"""Stands for the images among the numbers of convolutions."""


@dataclass(frozen=True)
class Norm:
    """A batch norm behind a convolution; every array has one value per channel."""

    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float


@dataclass(frozen=True)
class Convolution:
    """weight: [O,I,K,K] float32.  bias: [O], or None.  norm: the batch norm that follows, unless
    it was folded.  result: name of the value behind both.  before: numbers of the convolutions that
    it reads, with nothing but other operations between; INPUT for the images."""

    weight: np.ndarray
    bias: np.ndarray | None
    stride: int
    groups: int
    norm: Norm | None
    result: str
    before: frozenset[int]


@dataclass(frozen=True)
class OnnxNetwork:
    """What a file computes with.  model: the parsed file.  convolutions: in the order of the file.
    images: name of the input; shape: its sides, None where they are free."""

    model: Any
    convolutions: list[Convolution]
    images: str
    shape: tuple[int | None, ...]


def read_network(path: Path) -> OnnxNetwork:
    """The network of an ONNX file.  Needs the package onnx.

    Raises ImportFailed for a file that is damaged, quantized, or without one input of images.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ImportFailed(f"{path} is not a whole ONNX file: get it again") from error
    graph = model.graph
    constants = _Constants(path, graph)
    inputs = [value for value in graph.input if value.name not in constants.known]
    shapes = [value.type.tensor_type.shape.dim for value in inputs]
    if len(inputs) != 1 or len(shapes[0]) != 4:
        raise ImportFailed(f"{path} has {len(inputs)} inputs: expected one of shape [B,3,H,W]")
    shape = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in shapes[0])
    found = _read_convolutions(path, graph, inputs[0].name, constants)
    if not found:
        raise ImportFailed(f"{path} has no convolution: it is no detector that det knows")
    return OnnxNetwork(model, found, inputs[0].name, shape)


class _Constants:
    """The constants of a graph by name, as arrays; casts of constants count as such."""

    def __init__(self, path: Path, graph: Any) -> None:
        self.path = path
        self.known: dict[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                value = next((each.t for each in node.attribute if each.name == "value"), None)
                if value is not None:
                    self.known[node.output[0]] = value
            elif node.op_type in ("Cast", "Identity") and node.input[0] in self.known:
                self.known[node.output[0]] = self.known[node.input[0]]

    def array(self, name: str, what: str, ndim: int) -> np.ndarray:
        """A constant as float32.  Raises ImportFailed where it is none, or of another shape."""
        from onnx import TensorProto, numpy_helper

        tensor = self.known.get(name)
        if tensor is None:
            raise ImportFailed(
                f"{self.path}: {what} is computed in the graph, as in a quantized file: use the "
                "file in float32 or float16"
            )
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
            raise ImportFailed(f"{self.path}: {what} does not consist of floating-point numbers")
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ImportFailed(
                f"{self.path}: {what} lies in another file: save the model as one file"
            )
        try:
            values = numpy_helper.to_array(tensor).astype(np.float32)
        except (ValueError, TypeError) as error:
            raise ImportFailed(f"{self.path} is damaged: {what} ({error})") from error
        if values.ndim != ndim or not values.size or not np.isfinite(values).all():
            raise ImportFailed(
                f"{self.path}: {what} has shape {list(values.shape)} or values that are not finite"
            )
        return values


def _read_convolutions(
    path: Path, graph: Any, images: str, constants: _Constants
) -> list[Convolution]:
    """All two-dimensional convolutions of the main graph."""
    uses: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            uses.setdefault(name, []).append(node)
    sources: dict[str, frozenset[int]] = {images: frozenset((INPUT,))}
    found: list[Convolution] = []
    for node in graph.node:
        if node.op_type == "Conv":
            before = sources.get(node.input[0], frozenset())
            reads = frozenset((len(found),))
            found.append(_convolution(path, node, uses, before, constants))
        elif node.op_type in ("Shape", "Size"):
            reads = frozenset()  # a size, whatever was computed
        else:
            reads = frozenset().union(*(sources.get(name, frozenset()) for name in node.input))
        sources.update(dict.fromkeys(node.output, reads))
    return found


def _convolution(
    path: Path,
    node: Any,
    uses: dict[str, list[Any]],
    before: frozenset[int],
    constants: _Constants,
) -> Convolution:
    from onnx import helper

    what = f"convolution {node.name or node.output[0]}"
    about = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    weight = constants.array(node.input[1], f"the weight of {what}", 4)
    biased = len(node.input) > 2 and node.input[2]
    users = uses.get(node.output[0], [])
    norm, result = None, node.output[0]
    if len(users) == 1 and users[0].op_type == "BatchNormalization":
        norm, result = _norm(users[0], f"the norm behind {what}", constants), users[0].output[0]
    return Convolution(
        weight=weight,
        bias=constants.array(node.input[2], f"the bias of {what}", 1) if biased else None,
        stride=int(about.get("strides", [1])[0]),
        groups=int(about.get("group", 1)),
        norm=norm,
        result=result,
        before=before,
    )


def _norm(node: Any, what: str, constants: _Constants) -> Norm:
    weight, bias, mean, variance = (constants.array(name, what, 1) for name in node.input[1:5])
    own = {each.name: each.f for each in node.attribute}
    return Norm(weight, bias, mean, variance, own.get("epsilon", 1e-5))
