"""Removing channels: a detector of smaller widths with the tensors that stay.

``masked`` is the slow, obvious version of the same: all channels are there, and the removed ones
are zero.  Both answer alike, which the tests prove for every family.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ..models.blocks import Conv
from ..models.build import architecture_of, build_from
from ..models.detector import Detector
from .channels import Channels, Layer, Trace


def narrowed(model: Detector, trace: Trace, removed: Container[int]) -> Detector:
    """A new detector without the channels whose roots are ``removed``.

    trace: of ``model``.  Its answers are those of ``masked``.  Raises ArchitectureError where a
    layer would have no channel left."""
    before = architecture_of(model)
    stays = {path: _stays(trace, layer, removed) for path, layer in trace.layers.items()}
    widths = {}
    for path, (inputs, outputs) in stays.items():
        count_in, count_out = int(inputs.sum()), int(outputs.sum())
        groups = count_out if trace.layers[path].depthwise else trace.layers[path].groups
        widths[path] = (count_in, count_out, groups)
    small = build_from(replace(before, widths=widths))
    tensors = dict(model.state_dict())
    for path, layer in trace.layers.items():
        _cut(tensors, path, layer, stays[path])
    for path, (heads, queries) in trace.attentions.items():
        _rescale_queries(tensors, path, heads, _kept(trace, queries, removed))
    small.load_state_dict(tensors)
    small.letterbox = model.letterbox
    return small.train(model.training)


def masked(model: Detector, trace: Trace, removed: Container[int]) -> Detector:
    """A copy whose removed channels are zero wherever they are made."""
    whole = copy.deepcopy(model)
    with torch.no_grad():
        for tensor, rows in makers(whole, trace, removed):
            tensor[rows] = 0
    return whole


def makers(
    model: Detector, trace: Trace, removed: Container[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The tensors that make the removed channels, with their rows [C] bool: gain and bias of a
    norm, or weight and bias of a convolution without one.  Rows of zeros remove the channels."""
    for path, layer in trace.layers.items():
        gone = ~_kept(trace, layer.outputs, removed)
        if not gone.any():
            continue
        block = model.get_submodule(path.rpartition(".")[0])
        norm = block.norm if isinstance(block, Conv) else None
        maker = norm if isinstance(norm, nn.BatchNorm2d) else model.get_submodule(path)
        for tensor in (maker.weight, maker.bias):
            if tensor is not None:
                yield tensor.data, torch.from_numpy(gone)  # type: ignore[misc]


def _kept(trace: Trace, channels: Channels, removed: Container[int]) -> np.ndarray:
    """[C] bool: the channels that stay."""
    return np.array([root not in removed for root in trace.roots(channels).tolist()])


def _stays(trace: Trace, layer: Layer, removed: Container[int]) -> tuple[np.ndarray, np.ndarray]:
    return _kept(trace, layer.inputs, removed), _kept(trace, layer.outputs, removed)


def _cut(
    tensors: dict[str, Tensor], path: str, layer: Layer, stays: tuple[np.ndarray, np.ndarray]
) -> None:
    """Cut the tensors of a convolution, and of the norm behind it, in place of the whole ones."""
    inputs, outputs = (torch.from_numpy(each) for each in stays)
    weight = tensors[f"{path}.weight"]
    if layer.depthwise:
        weight = weight[outputs]
    else:  # [O,I/groups,K,K]: each group of outputs reads its own inputs
        blocks = zip(weight.chunk(layer.groups), inputs.chunk(layer.groups),
                     outputs.chunk(layer.groups), strict=True)  # fmt: skip
        weight = torch.cat([block[rows][:, columns] for block, columns, rows in blocks])
    tensors[f"{path}.weight"] = weight
    names = [f"{path}.bias"]
    if path.endswith(".conv"):
        names += [f"{path.removesuffix('.conv')}.norm.{part}" for part in NORM_PARTS]
    for name in names:
        if name in tensors:
            tensors[name] = tensors[name][outputs]


NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def _rescale_queries(tensors: dict[str, Tensor], path: str, heads: int, kept: np.ndarray) -> None:
    """Attention divides by the root of the width of a key: what was pruned of it is made up for in
    the queries, so that the products stay what they were."""
    before, after = len(kept) // heads, int(kept.sum()) // heads
    if after == before:
        return
    factor = math.sqrt(after / before)
    maker = f"{path}.qkv.norm" if f"{path}.qkv.norm.weight" in tensors else f"{path}.qkv.conv"
    for name in (f"{maker}.weight", f"{maker}.bias"):
        if name in tensors:
            tensor = tensors[name].clone()
            tensor.unflatten(0, (heads, -1))[:, :after] *= factor
            tensors[name] = tensor
