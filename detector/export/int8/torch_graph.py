"""Networks of ``.pt2`` files, quantized node by node in the graph that torch.export records.

A quantized convolution reads quantize_per_tensor and dequantize_per_tensor (uint8), and an int8
weight through dequantize_per_channel: torch's own notation, which torchao's quantizers for x86 and
ARM write too.  Such a file runs wherever torch runs; ``formats/torch_int8.py`` computes it with
integers.  Only inputs of convolutions are rounded; SiLU is computed in float inside the
convolution.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import getitem
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, fx

from ...quantization.rounding import STEPS, grid_of
from ..formats import torch_export
from ..formats.interface import Settings
from ..formats.torch_int8 import CONV, attribute, decomposed
from ..graph import ExportGraph
from .network import Network, OnProgress
from .weights import LARGE, MOST, quantize_weight

Ranges = Mapping[str, tuple[float, float]]
"""Name of a node -> smallest and largest value that 8 bits represent."""
Record = Callable[[torch.nn.Module], torch.export.ExportedProgram]
NARROWEST = 1e-6


@dataclass(frozen=True)
class Operation:
    """One node.  op_type: name of the operation.  input, output: nodes whose values it reads, and
    itself.  weight: name of the parameter of a convolution."""

    name: str
    op_type: str
    input: tuple[str, ...]
    output: tuple[str, ...]
    weight: str | None


class TorchNetwork(Network):
    """The network of a float ``.pt2``.

    module: its graph.  record: makes a program of such a module, with the inputs of the file.
    texts: metadata of the float file.
    """

    LAYERS = ("conv2d",)
    PASSTHROUGH = ()

    def __init__(
        self, source: Path, module: fx.GraphModule, record: Record, texts: Mapping[str, str]
    ) -> None:
        self.module, self.record, self.texts = module, record, texts
        super().__init__(source, operations_of(module))

    @classmethod
    def from_graph(
        cls, graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]
    ) -> Self:
        """As torch.export records it."""
        program = graph.program(settings.shape)
        source = path.with_suffix(".pt2")
        torch_export.save(program, source, texts)

        def record(module: torch.nn.Module) -> torch.export.ExportedProgram:
            return graph.program(settings.shape, module)

        return cls(source, program.module(check_guards=False), record, texts)

    @staticmethod
    def stage_of(operation: Operation) -> str:
        """From the name of its weight; in the head, one tower of one level."""
        assert operation.weight is not None
        parts = operation.weight.removeprefix("model.").removesuffix(".weight").split(".")
        if parts[-1] == "conv":
            parts = parts[:-1]
        return ".".join(parts[: 4 if parts[0] == "head" else 3])

    def numbers(self, operation: Operation) -> int:
        assert operation.weight is not None
        return attribute(self.module, operation.weight).numel()

    def find_ranges(
        self, inputs: Sequence[np.ndarray], method: str, on_progress: OnProgress | None = None
    ) -> dict[str, tuple[float, float]]:
        """The smallest and largest value that each convolution reads."""
        assert method == "minmax"
        wanted = {each.input[0] for each in self.operations if each.op_type in self.LAYERS}
        found: dict[str, tuple[float, float]] = {}
        for done, images in enumerate(inputs, 1):
            for name, values in walk(self.module, images, wanted):
                low, high = found.get(name, (0.0, NARROWEST))
                found[name] = min(low, float(values.min())), max(high, float(values.max()))
            if on_progress is not None:
                on_progress(done, len(inputs))
        return found

    def outputs(
        self, ranges: Ranges, layers: Collection[str], inputs: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """As torch computes them with rounded floats, one array per node of ``ends``."""
        module = quantized(self.module, layers, ranges) if layers else self.module
        rows = [dict(walk(module, images, set(self.ends))) for images in inputs]
        return [np.concatenate([row[name].numpy().ravel() for row in rows]) for name in self.ends]

    def save(
        self, ranges: Ranges, layers: Collection[str], path: Path, texts: Mapping[str, str]
    ) -> None:
        """Recorded anew, so that float weights that nothing reads are not in the file."""
        torch_export.save(self.record(quantized(self.module, layers, ranges)), path, texts)

    def save_weights(self, path: Path, texts: Mapping[str, str], *, dynamic: bool = False) -> int:
        """dynamic: the last layers and the first stay in float, as in a calibrated file."""
        large = [each for each in self.operations if each.op_type in self.LAYERS
                 and self.numbers(each) >= LARGE]  # fmt: skip
        names = [each.name for each in large if not (dynamic and each.name in self.fixed)]
        module = quantized(self.module, names, None, dynamic=dynamic)
        torch_export.save(self.record(module), path, texts)
        return len(names)

    def float_copy(self) -> Path:
        """The file that was written first."""
        return self.source


def operations_of(module: fx.GraphModule) -> list[Operation]:
    """The operations of a graph, in order."""
    found = []
    for node in module.graph.nodes:
        if node.op != "call_function":
            continue
        weight = node.args[1].target if node.target == CONV else None
        read = tuple(each.name for each in node.all_input_nodes if each.op != "get_attr")
        found.append(Operation(node.name, name_of(node.target), read, (node.name,), weight))
    return found


def name_of(target: Any) -> str:
    """``conv2d`` for aten.conv2d.default."""
    packet = getattr(target, "overloadpacket", target)
    return str(packet.__name__)


def walk(
    module: fx.GraphModule, images: np.ndarray, wanted: Collection[str] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Name and values of the nodes ``wanted`` (None: all floats of four axes) for a batch."""
    found: list[tuple[str, Tensor]] = []

    class Look(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor) and n.op != "get_attr":
                maps = result.ndim == 4 and result.is_floating_point()
                if maps if wanted is None else n.name in wanted:
                    found.append((n.name, result))
            return result

    with torch.no_grad():
        Look(module).run(torch.from_numpy(images))
    yield from found


def quantized(
    module: fx.GraphModule, layers: Collection[str], ranges: Ranges | None, *, dynamic: bool = False
) -> fx.GraphModule:
    """A copy of ``module`` whose convolutions ``layers`` have 8-bit weights and, by ``ranges``,
    read 8-bit values.  dynamic: with a range that is found at run time."""
    made = copy.deepcopy(module)
    convs = [node for node in made.graph.nodes if node.name in layers]
    read: dict[fx.Node, fx.Node] = {}
    for number, node in enumerate(convs):
        source, weight = node.args[0], node.args[1]
        with made.graph.inserting_before(node):
            node.update_arg(1, _weight(made, number, attribute(made, weight.target)))
        if ranges is None and not dynamic:
            continue
        if source not in read:
            with made.graph.inserting_before(source.next):
                ends = None if ranges is None else ranges[source.name]
                read[source] = _rounded(made.graph, source, ends)
        node.update_arg(0, read[source])
    made.graph.eliminate_dead_code()
    _drop_unread(made)
    made.graph.lint()
    made.recompile()
    return made


def _drop_unread(module: fx.GraphModule) -> None:
    """Remove the tensors that no node reads, or the file would hold the float weights too."""
    read = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    named = [*module.named_parameters(remove_duplicate=False),
             *module.named_buffers(remove_duplicate=False)]  # fmt: skip
    for name, _ in named:
        if name not in read:
            owner, _, last = name.rpartition(".")
            delattr(module.get_submodule(owner), last)


def _weight(module: fx.GraphModule, number: int, weight: Tensor) -> fx.Node:
    """A node that gives the values of an int8 weight [O,I,K,K]."""
    small, scales = quantize_weight(weight.detach().numpy())
    tensors = {
        "weight": torch.from_numpy(small),
        "scales": torch.from_numpy(scales),
        "zeros": torch.zeros(len(scales), dtype=torch.int64),
    }
    nodes = []
    for what, tensor in tensors.items():
        module.register_buffer(f"int8_{what}_{number}", tensor)
        nodes.append(module.graph.get_attr(f"int8_{what}_{number}"))
    rest = (0, -MOST, MOST, torch.int8)
    return module.graph.call_function(decomposed().dequantize_per_channel.default, (*nodes, *rest))


def _rounded(graph: fx.Graph, source: fx.Node, ends: tuple[float, float] | None) -> fx.Node:
    """A node that gives the values of ``source`` in 8 bits.  ends: None finds them at run time."""
    operations, kind = decomposed(), "tensor"
    spread: tuple[Any, ...]
    if ends is None:
        usual = (source, 0, STEPS, NARROWEST, torch.uint8)
        pair = graph.call_function(operations.choose_qparams.tensor, usual)
        spread = tuple(graph.call_function(getitem, (pair, place)) for place in (0, 1))
    else:
        step, low, _ = grid_of(*ends)
        spread, kind = (step, int(-low)), "default"
    rest = (*spread, 0, STEPS, torch.uint8)
    steps = graph.call_function(getattr(operations.quantize_per_tensor, kind), (source, *rest))
    return graph.call_function(getattr(operations.dequantize_per_tensor, kind), (steps, *rest))
