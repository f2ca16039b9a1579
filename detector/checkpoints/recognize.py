"""Which of our models the convolutions of a file are, by shape and by what follows what.

Both networks are graphs of convolutions.  Each convolution gets a color: shape, stride and groups,
then again and again the colors of those before and behind it (color refinement, Weisfeiler and
Leman 1968).  Convolutions of equal color are the same; names and order in the file do not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from ...weights.architecture import Architecture
from ...weights.importers.errors import ImportFailed
from ...weights.importers.onnx_graph import INPUT, OnnxNetwork
from ..models.build import NAMES, architecture_of, build, build_from
from ..models.detector import Detector

KNOWN = [name for name, (family, _) in NAMES.items() if family in ("yolox", "yolov8", "yolo11")]
"""Models that a file without a description may hold.  Of two alike branches (yolo26) nobody knows
which one it is, and yolov9 adds convolutions up for inference, which cannot be undone."""
SIDE = 64
"""Pixels of the images that a model is traced with; nothing is computed on them."""
MAX_CLASSES = 10_000

Signature = tuple[Any, ...]


@dataclass(frozen=True)
class Site:
    """A convolution in a graph.  signature: shape of the weight, stride and groups.  before:
    numbers of the convolutions that it reads, INPUT for the images.  path: of our module."""

    signature: Signature
    before: frozenset[int]
    path: str = ""


def recognize(
    network: OnnxNetwork, path: Any, known: Architecture | None = None
) -> tuple[Detector, dict[str, int]]:
    """A model with the layers of ``network`` and random weights, and which convolution of the file
    each of its own is: our path -> number.

    path: of the file, for messages.  known: the architecture, with the only branch, where the file
    says it.  Raises ImportFailed where no model of det has these layers.
    """
    theirs = [
        Site((*each.weight.shape, each.stride, each.groups), each.before)
        for each in network.convolutions
    ]
    needed = Counter(site.signature for site in theirs)
    for model in _candidates(theirs, needed, known):
        if _signatures(model) != needed:
            continue
        ours = trace(model.eval())
        if pairs := pair(ours, theirs):
            return build_from(architecture_of(model)), {ours[a].path: b for a, b in pairs.items()}
    raise ImportFailed(
        f"{path} has {len(theirs)} convolutions that are not those of any model of det: known are "
        f"{', '.join(KNOWN)} with their usual widths, and what det export wrote"
    )


def _candidates(
    theirs: Sequence[Site], needed: Counter[Signature], known: Architecture | None
) -> Iterator[Detector]:
    """Models that the file may hold, on the meta device."""
    if known is not None:
        yield _on_meta(partial(build_from, known))
        return
    read = frozenset().union(*(site.before for site in theirs))
    last = {site.signature[0] for number, site in enumerate(theirs) if number not in read}
    for name in KNOWN:
        if _signatures(_on_meta(partial(build, name, 80)).backbone) <= needed:
            for count in sorted(count for count in last if count <= MAX_CLASSES):
                yield _on_meta(partial(build, name, count))


def _on_meta(make: Callable[[], Detector]) -> Detector:
    """A model without memory for its weights."""
    with torch.device("meta"):
        return make()


def _signatures(module: nn.Module) -> Counter[Signature]:
    """Of the convolutions of a model or a part."""
    convs = [each for each in module.modules() if isinstance(each, nn.Conv2d)]
    return Counter(_signature(conv) for conv in convs)


def _signature(conv: nn.Conv2d) -> Signature:
    return (*conv.weight.shape, int(conv.stride[0]), conv.groups)


def trace(model: Detector) -> list[Site]:
    """The convolutions of a model in the order of computation.

    Which one reads which is read off the graph that autograd keeps.
    """
    found: list[tuple[str, nn.Conv2d, Any]] = []
    numbers: dict[Any, int] = {}

    def note(path: str, module: nn.Conv2d) -> Any:
        def hook(_: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            numbers[output.grad_fn] = len(found)
            found.append((path, module, arguments[0].grad_fn))

        return module.register_forward_hook(hook)

    modules = dict(model.named_modules())
    hooks = [note(path, m) for path, m in modules.items() if isinstance(m, nn.Conv2d)]
    device = next(model.parameters()).device
    with torch.enable_grad():
        outputs = model(torch.zeros(1, 3, SIDE, SIDE, device=device))
    for hook in hooks:
        hook.remove()
    sites = [
        Site(_signature(module), frozenset(_sources(start, numbers)), path)
        for path, module, start in found
    ]
    del outputs  # it kept the graph alive
    return sites


def _sources(start: Any, numbers: dict[Any, int]) -> Iterator[int]:
    """Numbers of the convolutions whose outputs lead to ``start``; INPUT where there is none."""
    if start is None:
        yield INPUT
        return
    waiting, seen = [start], {start}
    while waiting:
        node = waiting.pop()
        if node in numbers:
            yield numbers[node]
            continue
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)


def pair(ours: Sequence[Site], theirs: Sequence[Site]) -> dict[int, int]:
    """Number of ours -> number of theirs; empty where the graphs differ, or where two convolutions
    cannot be told apart."""
    names: dict[Any, int] = {}
    colors = [[names.setdefault(site.signature, len(names)) for site in g] for g in (ours, theirs)]
    distinct = 0
    while len(set(colors[0])) > distinct:
        distinct, names = len(set(colors[0])), {}
        colors = [
            _refined(graph, old, names) for graph, old in zip((ours, theirs), colors, strict=True)
        ]
        if sorted(colors[0]) != sorted(colors[1]):
            return {}
    if distinct < len(ours):
        return {}
    places = {color: number for number, color in enumerate(colors[1])}
    return {number: places[color] for number, color in enumerate(colors[0])}


def _refined(graph: Sequence[Site], colors: list[int], names: dict[Any, int]) -> list[int]:
    """Each color with the colors before and behind it, as a new number from ``names``."""
    behind: list[list[int]] = [[] for _ in graph]
    for number, site in enumerate(graph):
        for source in site.before - {INPUT}:
            behind[source].append(colors[number])
    return [
        names.setdefault(
            (
                colors[number],
                tuple(sorted(INPUT if source == INPUT else colors[source] for source in s.before)),
                tuple(sorted(behind[number])),
            ),
            len(names),
        )
        for number, s in enumerate(graph)
    ]
