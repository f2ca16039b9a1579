"""What validation and prediction ask of a model: a Detector, or a file that answers like one; and
which sides it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self

import torch
from torch import nn

from .predictions import Predictions


def fitting_size(wanted: int, stride: int) -> int:
    """``wanted`` pixels rounded up to a multiple of ``stride``."""
    return -(-wanted // stride) * stride


class Finder(Protocol):
    """Images in, Predictions of named head branches out; the rest is what every module has.

    letterbox: where an image lies in the input.  max_stride: sides are multiples of it.
    """

    letterbox: str
    num_classes: int

    @property
    def branches(self) -> tuple[str, ...]: ...

    @property
    def max_stride(self) -> int: ...

    def __call__(
        self, images: torch.Tensor, branches: tuple[str, ...] | None = None
    ) -> dict[str, Predictions]: ...

    def to(self, *args: Any, **kwargs: Any) -> Self: ...

    def eval(self) -> Self: ...

    def modules(self) -> Iterator[nn.Module]: ...
