"""Simulated 8-bit numbers: values are rounded to a grid of 256 steps and stay floating point.

Activations have one range per tensor and 256 steps with a zero point (uint8), weights one symmetric
range per output channel and the steps -127 to 127 (int8): the grids of the exported files.
Gradients pass the rounding unchanged (the straight-through estimator, Bengio et al. 2013, arXiv
1308.3432) and stop where a value is clipped.

torch's own ``fake_quantize`` computes the same on a CPU one number at a time, ten times as slow;
here four vectorized operations do it, in float32 as well as in bfloat16, where the integers up to
256 are exact.
"""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

STEPS = 255
"""From the smallest to the largest number of 8 bits."""
LARGEST_WEIGHT = 127
EVERY = 10
"""Optimizer steps from one look at the values to the next."""
SHARE = 0.1
"""Of a new look in the moving average of a range."""
SILU_FLOOR = -8.0
"""SiLU maps what is below to less than 0.003 from 0: steps spent on it would be wasted."""
NARROWEST = 1e-6
WIDEST = 1e6
"""Width of a range: beyond it, a value is no activation of a detector."""

Grid = tuple[float, float, float]
"""Step, and smallest and largest multiple of it."""


class _RoundActivation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limits = (low - 0.5) * step, (high + 0.5) * step
        return (x * (1 / step)).round_().clamp_(low, high).mul_(step)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        inside = torch.ops.aten.hardtanh_backward(grads[0], x, *ctx.limits)
        return inside, None, None, None


class _RoundWeight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        steps = steps_of(weight).reshape(-1, *[1] * (weight.ndim - 1))
        return (weight / steps).round_().mul_(steps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def steps_of(weight: Tensor) -> Tensor:
    """The step of each output channel: [O,...] -> [O]."""
    largest = weight.detach().abs().flatten(1).amax(1)
    return torch.where(largest > 0, largest / LARGEST_WEIGHT, 1.0)


def grid_of(low: float, high: float) -> Grid:
    """The grid of a range around 0, as ONNX Runtime and LiteRT spread it: 0 is one of its steps."""
    step = (high - low) / STEPS
    zero = round(-low / step)
    return step, float(-zero), float(STEPS - zero)


class Ranges(nn.Module):
    """The ranges of all activations of a detector, one row per range.

    ends: [R,2] float32, smallest and largest value.  Row 0 is the image, and is never measured.
    steps: optimizer steps so far.  until: the step from which ranges stay as they are.
    measuring: values pass unrounded and are looked at.
    """

    ends: Tensor
    steps: Tensor

    def __init__(self, image: float, rows: int = 1) -> None:
        super().__init__()
        self.register_buffer("ends", torch.tensor([[0.0, image]] + [[-1.0, 1.0]] * (rows - 1)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.until = 0
        self.measuring = False
        self._seen: dict[int, Tensor] | None = None
        self._grids: tuple[Tensor | None, int, list[Grid]] = None, 0, []

    def grid(self, row: int) -> Grid:
        """The grid of a row.  The numbers are read from the device once after each change."""
        if self.ends.is_meta:  # only shapes are computed there
            return 1.0, 0.0, float(STEPS)
        known, version, grids = self._grids
        now = 0 if self.ends.is_inference() else self.ends._version
        if known is not self.ends or version != now:
            grids = [grid_of(low, high) for low, high in self.ends.tolist()]
            self._grids = self.ends, now, grids
        return grids[row]

    def begin(self) -> None:
        """An optimizer step begins: every EVERY steps the values of all its forward passes are
        looked at, so that micro-batches give the ranges of the whole batch."""
        steps = int(self.steps)
        self._seen = {} if steps % EVERY == 0 and steps < self.until else None

    def end(self) -> None:
        """The last forward pass of an optimizer step is over: what was seen moves the ranges."""
        self.steps += 1
        if self._seen:
            self.ends[list(self._seen)] = torch.stack(
                [torch.lerp(self.ends[row], seen, SHARE) for row, seen in self._seen.items()]
            )
        self._seen = None

    def look(self, row: int, x: Tensor, floor: float) -> None:
        """Remember the ends of the values ``x`` of a row, where this pass is looked at.  floor:
        what is below needs no step of its own."""
        if self._seen is None or row == 0:
            return
        low, high = torch.aminmax(x.detach())
        ends = torch.stack((low.clamp(floor, 0), high.clamp(min=NARROWEST))).float()
        if row in self._seen:
            before = self._seen[row]
            ends = torch.stack((torch.min(ends[0], before[0]), torch.max(ends[1], before[1])))
        self._seen[row] = ends

    def watch(self) -> None:
        """Look at the values of the next pass, whatever the step."""
        self._seen = {}

    def seen(self) -> dict[int, Tensor]:
        """Row -> ends of the values since ``watch``."""
        found, self._seen = self._seen or {}, None
        return found


class Rounding(nn.Module):
    """Rounds activations to the grid of a row of ``ranges``.  floor: smallest value that counts."""

    def __init__(self, ranges: Ranges, row: int, floor: float = -math.inf) -> None:
        super().__init__()
        self.floor = floor
        self.shared = (ranges,)  # in a tuple: it is a part of the detector, not of this module
        self.row = row

    @property
    def measuring(self) -> bool:
        """Whether values pass unrounded now."""
        return self.shared[0].measuring

    def forward(self, x: Tensor) -> Tensor:
        (ranges,) = self.shared
        ranges.look(self.row, x, self.floor)
        if ranges.measuring:
            return x
        rounded: Tensor = _RoundActivation.apply(x, *ranges.grid(self.row))
        return rounded


class Rounded(nn.Module):
    """An activation function or a sum whose result is rounded.

    In evaluation mode SiLU also rounds its sigmoid, as a file does that has an 8-bit sigmoid and an
    8-bit product in its place; in training that would cost a tenth of a step for half a step of
    noise.
    """

    def __init__(self, inner: nn.Module, rounding: Rounding) -> None:
        super().__init__()
        self.inner = inner
        self.rounding = rounding

    def forward(self, *inputs: Tensor) -> Tensor:
        found = self.inner(*inputs)
        if isinstance(self.inner, nn.SiLU) and not (self.training or self.rounding.measuring):
            gate = inputs[0].sigmoid().mul_(STEPS).round_().div_(STEPS)
            found = inputs[0] * gate
        rounded: Tensor = self.rounding(found)
        return rounded


class RoundedConv2d(nn.Conv2d):
    """A convolution with rounded weights.  entry: rounds its input where nothing before it has."""

    entry: Rounding | None
    shared: tuple[Ranges]

    @classmethod
    def of(cls, conv: nn.Conv2d, ranges: Ranges) -> Self:
        """A convolution with the parameters of ``conv``."""
        made = cls(
            *(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding),  # type: ignore[arg-type]
            groups=conv.groups,
            bias=conv.bias is not None,
            device="meta",
        )
        made.weight, made.bias = conv.weight, conv.bias
        made.entry, made.shared = None, (ranges,)
        return made

    def forward(self, x: Tensor) -> Tensor:
        if self.entry is not None:
            x = self.entry(x)
        if self.shared[0].measuring:
            return self._conv_forward(x, self.weight, self.bias)
        return self._conv_forward(x, _RoundWeight.apply(self.weight), self.bias)
