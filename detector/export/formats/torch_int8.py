"""8-bit ``.pt2`` files, computed with integers where torch has them.

The file says what is rounded (``int8/torch_graph.py``).  Read as it is, everything is computed in
float with rounded numbers, which is right everywhere and slow.  On x86 with VNNI, torch has
convolutions of integers (oneDNN): a rounded input, an 8-bit weight, the convolution, a SiLU behind
it and the rounding behind that become one of them.  That takes no compiler; ``torch.compile`` takes
the result too.
"""

from __future__ import annotations

import functools
import platform
import warnings
from typing import Any

import torch
from torch import Tensor, fx

CONV = torch.ops.aten.conv2d.default
SILU = torch.ops.aten.silu.default


def decomposed() -> Any:
    """torch's operations that round, which are there once their module is imported."""
    import torch.ao.quantization.fx._decomposed

    return torch.ops.quantized_decomposed


@functools.cache
def has_integers() -> bool:
    """Whether torch has convolutions of integers here that add in 32 bits.

    On processors without VNNI oneDNN adds pairs of products in 16 bits, which overflow and give
    wrong numbers without a word.  So one with the largest numbers is tried.
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return x86 and torch.backends.mkldnn.is_available() and _adds_exactly()


@torch.no_grad()
def _adds_exactly() -> bool:
    channels, none, one = 16, [0, 0], [1, 1]
    image = torch.full((1, channels, 1, 1), 255, dtype=torch.uint8)
    weight = torch.full((channels, channels, 1, 1), 127, dtype=torch.int8)
    scales, zeros = torch.ones(channels), torch.zeros(channels, dtype=torch.int32)
    packed = torch.ops.onednn.qconv_prepack(
        weight, scales, 1.0, 0, one, none, one, 1, list(image.shape)
    )
    found = torch.ops.onednn.qconv2d_pointwise.default(
        image, 1.0, 0, packed, scales, zeros, None, one, none, one, 1, 1.0, 0, torch.float32,
        "none", [], "",
    )  # fmt: skip
    return bool((found == channels * 255 * 127).all())


def attribute(module: torch.nn.Module, name: str) -> Tensor:
    """A parameter or buffer by its dotted name."""
    owner, _, last = name.rpartition(".")
    found: Tensor = getattr(module.get_submodule(owner), last)
    return found


@torch.no_grad()
def with_integers(module: fx.GraphModule) -> fx.GraphModule:
    """``module`` with convolutions of integers in place of rounded ones, where torch has them; and
    weights that are only stored in 8 bits, as floats.  In place."""
    operations, integers = decomposed(), has_integers()
    for number, node in enumerate(list(module.graph.nodes)):
        if node.target != CONV or not isinstance(node.args[1], fx.Node):
            continue
        source, weight = node.args[:2]
        if weight.target != operations.dequantize_per_channel.default:
            continue
        rounded = isinstance(source, fx.Node) and source.target in (
            operations.dequantize_per_tensor.default, operations.dequantize_per_tensor.tensor
        )  # fmt: skip
        if rounded and integers:
            _replace(module, node, number)
        else:
            _widen(module, node, number)
    if integers:
        _round_faster(module.graph)
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()
    return module


def _replace(module: fx.GraphModule, node: fx.Node, number: int) -> None:
    """One convolution of integers for ``node`` and what is around it."""
    operations, graph, onednn = decomposed(), module.graph, torch.ops.onednn
    source, weight, *more = _arguments(node)
    steps, scale, zero, *_ = _arguments(source)
    small, scales, zeros, *_ = _arguments(weight)
    bias, stride, padding, dilation, groups = _settings(more)
    known = isinstance(scale, float)
    packed = onednn.qconv_prepack(
        attribute(module, small.target), attribute(module, scales.target),
        scale if known else 1.0, zero if known else 0, stride, padding, dilation, groups, None,
    )  # fmt: skip
    module.register_buffer(f"packed_{number}", packed)
    last, function = node, "none"
    if [each.target for each in node.users] == [SILU]:
        last, function = next(iter(node.users)), "swish"
    out: tuple[Any, ...] = (1.0, 0, torch.float32)
    users = list(last.users)
    if [each.target for each in users] == [operations.quantize_per_tensor.default]:
        last = users[0]
        out = (last.args[1], last.args[2], torch.uint8)
    kind = onednn.qconv2d_pointwise.default if known else onednn.qconv2d_pointwise.tensor
    with graph.inserting_before(last):
        made = graph.call_function(
            kind,
            (steps, scale, zero, graph.get_attr(f"packed_{number}"), scales, zeros, bias,
             stride, padding, dilation, groups, *out, function, [], ""),
        )  # fmt: skip
    last.replace_all_uses_with(made)


def _arguments(node: fx.Node) -> tuple[Any, ...]:
    return tuple(node.args)


def _settings(more: list[Any]) -> tuple[Any, list[int], list[int], list[int], int]:
    """Bias, stride, padding, dilation and groups of a convolution, with torch's defaults."""
    usual: list[Any] = [None, [1, 1], [0, 0], [1, 1], 1]
    bias, stride, padding, dilation, groups = [*more, *usual[len(more) :]]
    return bias, list(stride), list(padding), list(dilation), groups


def _widen(module: fx.GraphModule, node: fx.Node, number: int) -> None:
    """The weight of ``node`` as floats, computed once."""
    weight = node.args[1]
    assert isinstance(weight, fx.Node)
    tensors = [attribute(module, each.target) for each in _arguments(weight)[:3]]
    values = decomposed().dequantize_per_channel.default(*tensors, *weight.args[3:])
    module.register_buffer(f"wide_{number}", values)
    with module.graph.inserting_before(weight):
        node.update_arg(1, module.graph.get_attr(f"wide_{number}"))


def _round_faster(graph: fx.Graph) -> None:
    """Rounding by torch's own kernel, one pass over the values in place of five."""
    with warnings.catch_warnings():  # torch says once that these kernels will move
        warnings.simplefilter("ignore")
        _round(torch.zeros(1), 1.0, 0)
    wanted = decomposed().quantize_per_tensor.default
    for node in [each for each in graph.nodes if each.target == wanted]:
        values, scale, zero = node.args[:3]
        with graph.inserting_before(node):
            made = graph.call_function(_round, (values, scale, zero))
        node.replace_all_uses_with(made)


def _round(values: Tensor, scale: float, zero: int) -> Tensor:
    return torch.quantize_per_tensor(values, scale, zero, torch.quint8).int_repr()
