"""A detector that computes as its 8-bit file will: ``simulate`` makes one of a float detector.

Norms are folded into the convolutions.  Rounded are the weights of every convolution, and the
activations where files of 8 bits hold them: what a convolution gives, what the activation function
makes of it, and sums.  Everything between that only moves values (concatenation, splitting,
max-pooling, enlarging) keeps the grid, so all maps that are joined share one range: then joining
needs no arithmetic, neither here nor in a file.  Boxes and scores, the outputs of the last layers,
stay as they are.

Which maps meet is found by following them through one forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...weights.checkpoint import CheckpointError
from ..models.blocks import Add, Conv
from ..models.build import architecture_of, build_from
from ..models.detector import Detector
from .rounding import NARROWEST, SILU_FLOOR, WIDEST, Ranges, Rounded, RoundedConv2d, Rounding

INT8 = "int8"
"""The one kind of simulation, as options and checkpoints name it."""
FUNCTIONS = (nn.SiLU, nn.ReLU, nn.LeakyReLU)
"""Activation functions of the families."""
PASSING = frozenset(
    ("cat", "chunk", "split", "split_with_sizes", "max_pool2d", "_max_pool2d", "boolean_dispatch",
     "interpolate", "getitem", "__getitem__", "contiguous", "reshape", "view", "flatten", "flip")
)  # fmt: skip
"""Operations of torch whose outputs have the values of their inputs."""


def ranges_of(model: nn.Module) -> Ranges | None:
    """The ranges of a detector that simulates 8 bits, None of another."""
    found = getattr(model, "ranges", None)
    return found if isinstance(found, Ranges) else None


def simulate(model: Detector) -> Detector:
    """Let ``model`` simulate 8 bits, in place.  Its ranges are -1 to 1 until they are measured or
    loaded."""
    if ranges_of(model) is not None:
        return model
    model.unfused, training = architecture_of(model), model.training
    model.fuse()
    ranges = Ranges(model.scale)
    places = list(_place(model, ranges))
    follow(model, places)
    rows = {old: new for new, old in enumerate(sorted({0, *(each.row for each in places)}))}
    used = [each for each in model.modules() if isinstance(each, Rounding)]
    for each in used:
        each.row = rows[each.row]
    whole = Ranges(model.scale, len(rows))
    ranges.register_buffer("ends", whole.ends)
    model.ranges = ranges.to(next(model.parameters()).device)
    return model.train(training)


def plain_copy(model: Detector) -> Detector:
    """A float copy of a detector that simulates 8 bits, with the weights before rounding."""
    made = build_from(architecture_of(model)).fuse()
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith("ranges.")}
    made.load_state_dict(weights)
    made.letterbox, made.unfused = model.letterbox, model.unfused
    return made.to(next(model.parameters()).device).train(model.training)


def check_ranges(model: Detector, path: Path) -> None:
    """Raise CheckpointError where the ranges of ``path`` cannot be those of activations."""
    if (ranges := ranges_of(model)) is None:
        return
    low, high = ranges.ends.unbind(1)
    right = (low <= 0) & (high >= 0) & (high - low >= NARROWEST / 2) & (high - low <= WIDEST)
    if not bool(right.all()):
        row = int((~right).int().argmax())
        pair = ", ".join(f"{value:g}" for value in ranges.ends[row].tolist())
        raise CheckpointError(
            f"{path}: range {row} of its 8-bit activations is {pair}: expected one around 0; the "
            "file is damaged, use another copy"
        )


def _place(model: Detector, ranges: Ranges) -> Iterator[Rounding]:
    """Replace what is rounded, in place; each rounding gets a row of its own."""
    row = 0
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Conv2d):
            model.set_submodule(path, RoundedConv2d.of(module, ranges))
            continue
        if not isinstance(module, (Conv, Add, *FUNCTIONS)):
            continue
        row += 1
        enters = isinstance(module, Conv) and isinstance(module.act, nn.SiLU)
        rounding = Rounding(ranges, row, *[SILU_FLOOR] * enters)
        if isinstance(module, Conv):
            module.norm = rounding
        else:
            model.set_submodule(path, Rounded(module, rounding))
        yield rounding


def follow(model: Detector, places: list[Rounding]) -> None:
    """Give places whose values meet in a concatenation one row, the smallest of theirs, and a
    rounding to the inputs of convolutions that nothing has rounded, in place."""
    maps, last = _Maps(), max(each.row for each in places)
    (ranges,) = places[0].shared
    parameter = next(model.parameters())
    side = 2 * model.max_stride
    images = torch.zeros(1, 3, side, side, device=parameter.device)

    def tag(module: nn.Module, _: Any, output: Tensor) -> None:
        assert isinstance(module, Rounding)
        maps.tag(output, module.row)

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal last
        assert isinstance(module, RoundedConv2d)
        if maps.row_of(inputs[0]) is None:
            last += 1
            module.entry = Rounding(ranges, last)
            places.append(module.entry)

    def start(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        maps.tag(inputs[0], 0)

    hooks: list[Any] = [each.register_forward_hook(tag) for each in places]
    convs = [each for each in model.modules() if isinstance(each, RoundedConv2d)]
    hooks += [each.register_forward_pre_hook(look) for each in convs]
    hooks.append(model.backbone.register_forward_pre_hook(start))
    ranges.measuring = True
    with torch.no_grad(), maps:
        model.eval()(images)
    ranges.measuring = False
    for hook in hooks:
        hook.remove()
    for each in places:
        each.row = maps.root(each.row)


class _Maps(TorchFunctionMode):
    """Follows rows from tensor to tensor.  Rows that meet become one."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[int, tuple[Tensor, int]] = {}
        self._joined: dict[int, int] = {}

    def tag(self, tensor: Tensor, row: int) -> None:
        self._rows[id(tensor)] = tensor, row  # the tensor is kept: its id stays its own

    def row_of(self, tensor: Tensor) -> int | None:
        found = self._rows.get(id(tensor))
        return None if found is None else self.root(found[1])

    def root(self, row: int) -> int:
        while row in self._joined:
            row = self._joined[row]
        return row

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in PASSING:
            rows = {self.row_of(tensor) for tensor in _tensors(args)}
            known = sorted(row for row in rows if row is not None)
            if known and None not in rows:
                for row in known[1:]:
                    self._joined[row] = known[0]
                for tensor in _tensors((result,)):
                    self.tag(tensor, known[0])
        return result


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
