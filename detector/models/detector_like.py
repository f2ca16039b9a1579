"""The interface that validation and prediction need of a Detector or an exported file, and the
options of a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import nn

from ...datasets.images.input_size import InputSize
from ...files.errors import InputError
from ...weights.checkpoint import MAX_SIDE
from .predictions import Predictions


def fitting_size(wanted: int, stride: int) -> int:
    """``wanted`` pixels rounded up to a multiple of ``stride``.  Raises InputError where it is
    beyond MAX_SIDE."""
    if wanted > MAX_SIDE:
        raise InputError(f"imgsz={wanted}: a side has at most {MAX_SIDE:,} pixels")
    return -(-wanted // stride) * stride


def fitted(size: int | tuple[int, ...], stride: int, *, rect: bool = False) -> InputSize:
    """``imgsz=`` as the input of a model whose sides are multiples of ``stride``; rect: cut to the
    shape of each image.  Raises InputError."""
    height, width = (fitting_size(side, stride) for side in sides_of(size))
    return InputSize(height, width, stride if rect else 0)


def sides_of(size: int | tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of ``imgsz=``: one side, or both."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


@dataclass(frozen=True)
class ForwardOptions:
    """How a model is run.

    autocast: makes the context of a forward pass, such as ``Precision.autocast``; default: float32.
    channels_last: keep images and features in channels-last memory.
    """

    device: torch.device
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    channels_last: bool = True

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


class DetectorLike(Protocol):
    """Images -> Predictions of named head branches, and some methods of nn.Module.

    letterbox: where an image lies in the input.  max_stride: sides must be multiples of it.
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
