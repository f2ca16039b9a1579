"""A YOLOX as Megvii's export script writes it: decoded rows, folded norms, numbers for names."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from yolodet.detector.models.detector import Detector


class Upstream(nn.Module):
    """Images as the first convolution takes them -> [B,A,5+C]: center, size, objectness and
    classes."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)

    def forward(self, images: Tensor) -> Tensor:
        levels = self.model.neck(self.model.backbone(images))
        head = self.model.head.one_to_many
        rows = []
        for level, x in enumerate(levels):
            stride = self.model.strides[level]
            x = head.stems[level](x)
            classes = head.classes[level](x).sigmoid()
            first, second, last = head.boxes[level].children()
            x = second(first(x))
            found = torch.cat((last(x), head.objectness[level](x).sigmoid(), classes), 1)
            height, width = found.shape[-2:]
            y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
            grid = torch.stack((x, y), -1).reshape(1, -1, 2)
            found = found.flatten(2).permute(0, 2, 1)
            center, size = (found[..., :2] + grid) * stride, found[..., 2:4].exp() * stride
            rows.append(torch.cat((center, size, found[..., 4:]), -1))
        return torch.cat(rows, 1)


def write_upstream(model: Detector, path: Path, side: int, *, folded: bool = True) -> None:
    """Export; folded: without batch norms, as a file to deploy has it."""
    mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Upstream(model).eval(), (torch.zeros(1, 3, side, side),), path, dynamo=False,
            training=mode, input_names=["images"], output_names=["output"],
        )  # fmt: skip
    network = onnx.load(path)
    shuffle(network)
    onnx.save(network, path)


def shuffle(network: onnx.ModelProto) -> None:
    """Give values numbers for names, and nodes another valid order: the deepest branch first."""
    graph = network.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    made = {name for node in graph.node for name in node.output} | {
        tensor.name for tensor in graph.initializer
    }
    numbers = {name: str(i) for i, name in enumerate(sorted(made - kept))}
    for tensor in graph.initializer:
        tensor.name = numbers[tensor.name]
    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [numbers.get(name, name) for name in names]
    del graph.value_info[:]
    makers = {name: node for node in graph.node for name in node.output}
    order: list[onnx.NodeProto] = []
    done: set[str] = set()

    def place(node: onnx.NodeProto) -> None:
        if node.output[0] not in done:
            done.add(node.output[0])
            for name in reversed(node.input):
                if name in makers:
                    place(makers[name])
            order.append(node)

    for node in reversed(list(graph.node)):
        place(node)
    copies = [copy.deepcopy(node) for node in order]
    del graph.node[:]
    graph.node.extend(copies)
