"""8-bit files of a checkpoint of quantization-aware training: its own ranges, in every layer.

The checkpoint keeps a range per map, and the float file has a tensor per map under names of its
own.  Both compute the same values from one image, so a tensor is recognized by its values: their
number, mean, root mean square and ends.  That holds in every format and after every rewriting of
the graph.  Operations that only move values hand the range on.

Every convolution is in 8 bits.  The last ones give boxes and scores in float, since nothing after
them is quantized.  SiLU is in integers too, where the runtime has no faster form.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...models.detector import Detector
from ...options.formats import ExportError
from ...quantization.rounding import Rounding
from ...quantization.simulate import ranges_of
from ..formats import tflite
from .network import Network
from .onnx import OnnxNetwork, OpenvinoNetwork
from .onnx_graph import LAYER, PASSTHROUGH, Ranges
from .ranges import open_session
from .tflite import BITS, TfliteNetwork, run_through
from .torch_graph import TorchNetwork, walk

ALIKE = 2e-3
"""Largest difference of two values of one map, relative to its largest value."""
MOVING = frozenset(
    ("Split", "MaxPool", "Resize", "Concat", "Reshape", "Transpose", "Slice", "Identity", "Squeeze",
     "MAX_POOL_2D", "RESIZE_NEAREST_NEIGHBOR", "CONCATENATION", "RESHAPE", "TRANSPOSE", "SLICE",
     "STRIDED_SLICE", "SPLIT", "SPLIT_V", "cat", "chunk", "split_with_sizes", "getitem",
     "max_pool2d", "upsample_nearest2d", "reshape", "transpose", "slice")
)  # fmt: skip
"""Operations whose outputs have the values of their inputs; PAD adds 0, which is in every range."""
UNIT = frozenset(("Sigmoid", "LOGISTIC"))
"""Operations whose outputs lie between 0 and 1."""


@dataclass(frozen=True)
class Map:
    """What is known of the values of a map.  traits: mean, root mean square, smallest, largest."""

    count: int
    traits: np.ndarray

    @staticmethod
    def of(values: np.ndarray) -> Map:
        flat = values.astype(np.float64).ravel()
        mean, power = flat.mean(), np.sqrt(np.square(flat).mean())
        return Map(flat.size, np.array((mean, power, flat.min(), flat.max())))

    def is_like(self, other: Map) -> bool:
        """Whether both can be the same map."""
        scale = max(float(np.abs(self.traits).max()), 1e-6)
        near = np.abs(self.traits - other.traits).max() <= ALIKE * scale
        return self.count == other.count and bool(near)


@torch.no_grad()
def maps_of(model: Detector, branch: str, images: Tensor) -> list[tuple[tuple[float, float], Map]]:
    """(range, map) of everything that the detector rounds on the way to a branch, the image first.

    images: [1,3,H,W] float in 0..1.  The values are those before rounding.
    """
    ranges = ranges_of(model)
    assert ranges is not None
    ends = [(float(low), float(high)) for low, high in ranges.ends.tolist()]
    found: list[tuple[tuple[float, float], Map]] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        row = module.row if isinstance(module, Rounding) else 0
        found.append((ends[row], Map.of(inputs[0].numpy())))

    parts = [module for module in model.modules() if isinstance(module, Rounding)]
    hooks: list[Any] = [part.register_forward_pre_hook(look) for part in parts]
    hooks.append(model.backbone.register_forward_pre_hook(look))
    ranges.measuring = True
    try:
        model(images, branches=(branch,))
    finally:
        ranges.measuring = False
        for hook in hooks:
            hook.remove()
    return found


def ranges_for(
    operations: Sequence[Any],
    values: Iterator[tuple[str, np.ndarray]],
    maps: Sequence[tuple[tuple[float, float], Map]],
) -> dict[str, tuple[float, float]]:
    """Name of a tensor -> its range.  values: of the tensors of a float file, for the images that
    ``maps`` are of.  Raises ExportError where a map is not in the file."""
    ranges, missing = {}, set(range(len(maps)))
    for name, array in values:
        mine = Map.of(array)
        like = [i for i, (_, other) in enumerate(maps) if other.is_like(mine)]
        if like:
            ranges[name] = maps[like[0]][0]
            missing.difference_update(like)
    if missing:
        raise ExportError(
            f"int8: {len(missing)} of the {len(maps)} maps of the checkpoint are not in its float "
            "file: its ranges cannot be used; export it with another opset="
        )
    for operation in operations:
        known = [ranges[name] for name in operation.input if name in ranges]
        if operation.op_type in UNIT:
            ranges |= dict.fromkeys(operation.output, (0.0, 1.0))
        elif (operation.op_type in MOVING or operation.op_type == "PAD") and known:
            ranges |= {name: known[0] for name in operation.output if name not in ranges}
    return ranges


class TrainedOnnx(OnnxNetwork):
    """An ONNX file whose layers are all quantized, by ranges that are kept, and SiLU with them."""

    QUANTIZED = (LAYER, *PASSTHROUGH, "Sigmoid", "Mul")

    def __init__(self, path: Path) -> None:
        super().__init__(path, fused=False)
        self._known: Collection[str] = ()

    def passthrough(self, layers: Collection[str]) -> list[str]:
        """With both operations of SiLU, without what reads a map that is not rounded: the sum that
        attention gives its products to."""
        names = {*super().passthrough(layers), *self._silus()}
        return [
            each.name
            for each in self.operations
            if each.name in names
            and all(name in self._known for name in each.input if name in self.producer)
        ]

    def _silus(self) -> Iterator[str]:
        for node in self.operations:
            users = self.users[node.output[0]]
            if (
                node.op_type == "Sigmoid"
                and [each.op_type for each in users] == ["Mul"]
                and node.input[0] in users[0].input
            ):
                yield from (node.name, users[0].name)

    def quantized(self, ranges: Ranges, layers: Collection[str], *, outputs: bool = True) -> Any:
        """The outputs of the last layers stay in float."""
        self._known = ranges
        ends = dict.fromkeys(self.ends, (-1.0, 1.0))  # the tool asks for one
        model = super().quantized({**ranges, **ends}, layers, outputs=outputs)
        free(model, self.ends)
        return model

    def values(self, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Name and values of each map [1,C,H,W] of the float network."""
        yield from values_of(self.model, images)


class TrainedOpenvino(OpenvinoNetwork):
    """The same for OpenVINO, with inputs of layers only."""

    def values(self, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Name and values of each map [1,C,H,W] of the float network."""
        yield from values_of(self.model, images)


class TrainedTflite(TfliteNetwork):
    """A TFLite file whose layers are all quantized, by ranges that are kept.

    A layer of integers gives integers there.  The last layers, whose outputs stay float, therefore
    have 8-bit weights that are widened when the file is loaded."""

    def values(self, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Name and values of each map [1,H,W,C] of the float network."""
        for found in run_through(self.source, self.maps(), [images]):
            yield from zip(self.maps(), found, strict=True)

    def maps(self) -> list[str]:
        """Names of the tensors that are computed."""
        return [name for operation in self.operations for name in operation.output]

    def save(
        self, ranges: Any, layers: Collection[str], path: Path, texts: Mapping[str, str]
    ) -> None:
        """ranges: as (smallest, largest); the quantizer wants arrays."""
        ends = {
            name: {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}
            for name, (low, high) in ranges.items()
        }
        last = {name for name in layers if not self.after[name]}
        integers = {*layers, *self.passthrough(layers)} - last
        known = {each.name for each in self.operations if self._is_known(each, ends)}
        static, widened = self.scopes(integers & known), self.scopes(last)

        def recipe(manager: Any) -> None:
            manager.add_static_config(static, "*", BITS, BITS)
            manager.add_weight_only_config(widened, "*", BITS)

        tflite.rewrite(self.source, path, recipe, ends)
        tflite.add_texts(path, texts)

    def _is_known(self, operation: Any, ends: Mapping[str, Any]) -> bool:
        """Whether the ranges of all that it reads and gives are known."""
        read = [name for name in operation.input if name in self.producer]
        return all(name in ends for name in (*read, *operation.output))


class TrainedTorch(TorchNetwork):
    """A ``.pt2`` whose layers are all quantized, by ranges that are kept."""

    def values(self, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Name and values of each map [1,C,H,W] of the float network."""
        for name, values in walk(self.module, images):
            yield name, values.numpy()


TRAINED: dict[str, type[Network]] = {
    "onnx": TrainedOnnx,
    "openvino": TrainedOpenvino,
    "tflite": TrainedTflite,
    "torch_export": TrainedTorch,
}
"""Name of a format -> how it is written with the ranges of a checkpoint."""


def kept_ranges(network: Any, model: Detector, branch: str, images: np.ndarray) -> Any:
    """The ranges of ``model`` for the tensors of ``network``, its float file.  images: a batch as
    the file takes it."""
    unit = images.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)
    maps = maps_of(model, branch, torch.from_numpy(unit))
    return ranges_for(network.operations, network.values(images), maps)


def values_of(model: Any, images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values of each map of a float ONNX model, the image first."""
    from onnx import ModelProto, helper

    watched = ModelProto()
    watched.CopyFrom(model)
    yield "images", images
    names = [name for node in watched.graph.node for name in node.output if name]
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = open_session(watched.SerializeToString())
    for name, array in zip(names, session.run(None, {"images": images}), strict=True):
        if array.ndim == 4 and array.dtype == np.float32:
            yield name, array


def free(model: Any, names: Collection[str]) -> None:
    """Remove QuantizeLinear and DequantizeLinear behind the tensors ``names`` of an ONNX model, in
    place."""
    gone, renamed = [], {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in names:
            gone.append(node)
            renamed[node.output[0]] = node.input[0]
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in renamed:
            gone.append(node)
            renamed[node.output[0]] = renamed[node.input[0]]
    for node in gone:
        model.graph.node.remove(node)
    read = {name for node in model.graph.node for name in node.input}
    for tensor in [each for each in model.graph.initializer if each.name not in read]:
        model.graph.initializer.remove(tensor)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in renamed:
                node.input[place] = renamed[name]
