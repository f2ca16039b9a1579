"""From features to Predictions, and from Predictions to boxes.

A branch has one tower for boxes and one for classes on every level.  For each anchor point (the
center of a cell) it predicts class logits and the distances from the point to the four sides of a
box.  Decoding always runs in float32: a half-precision coordinate near 640 is only exact to half a
pixel.  Sources: anchor-free ltrb boxes, FCOS (arXiv 1904.01355);
distributions over distances, GFL (arXiv 2006.04388 section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.amp import is_autocast_available

from .predictions import Predictions

STRIDES = (8, 16, 32)
FINE_STRIDES = (4, *STRIDES)
"""Of models for small objects."""
CACHED_GRIDS = 64

Tower = Callable[[int], nn.Sequential]
"""Channels of a level -> its tower; the last layer is a plain 1x1 ``nn.Conv2d``."""


class AnchorPoints:
    """Cell centers in input pixels, cached per feature sizes.

    They are not registered buffers and not part of an autograd graph.
    """

    def __init__(self) -> None:
        self._grids: dict[tuple[object, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(
        self, sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Points [A,2] (x, y) and strides [A], float32, level after level and row by row."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return make_points(sizes, strides, device)  # sizes are symbolic: cannot be cached
        key = (*sizes, *strides, device)
        if key not in self._grids:
            if len(self._grids) >= CACHED_GRIDS:
                self._grids.pop(next(iter(self._grids)))
            with torch.inference_mode(False), torch.no_grad():  # training may use it later
                self._grids[key] = make_points(sizes, strides, device)
        return self._grids[key]

    def __deepcopy__(self, memo: dict[int, object]) -> AnchorPoints:
        return AnchorPoints()

    def __getstate__(self) -> dict[str, object]:
        return {"_grids": {}}


def make_points(
    sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cell centers ``(column + 0.5, row + 0.5) * stride`` [A,2] and strides [A], float32."""
    points, each = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) * stride
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) * stride
        grid = torch.stack(
            (x.expand(height, width), y[:, None].expand(height, width)), -1
        )  # [H,W,2]
        points.append(grid.flatten(0, 1))
        each.append(
            torch.full((height * width,), float(stride), dtype=torch.float32, device=device)
        )
    return torch.cat(points), torch.cat(each)


class Branch(nn.Module):
    """Towers of one branch: ``boxes[level]`` and ``classes[level]``."""

    def __init__(self, channels: Sequence[int], boxes: Tower, classes: Tower) -> None:
        super().__init__()
        self.boxes = nn.ModuleList(boxes(c) for c in channels)
        self.classes = nn.ModuleList(classes(c) for c in channels)

    def set_biases(self, strides: Sequence[int], num_classes: int, box_bias: float) -> None:
        """Start with boxes of ``box_bias`` strides per side and 5 objects per 640 x 640."""
        for tower in self.boxes:
            nn.init.constant_(tower[-1].bias, box_bias)  # type: ignore[index]
        for tower, stride in zip(self.classes, strides, strict=True):
            prior = math.log(5 / num_classes / (640 / stride) ** 2)
            nn.init.constant_(tower[-1].bias, prior)  # type: ignore[index]

    def forward(self, features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [B,A,C] and distances [B,A,4R] of all levels."""
        logits = [rows(tower(x)) for tower, x in zip(self.classes, features, strict=True)]
        distances = [rows(tower(x)) for tower, x in zip(self.boxes, features, strict=True)]
        return torch.cat(logits, 1), torch.cat(distances, 1)


def rows(x: torch.Tensor) -> torch.Tensor:
    """[B,C,H,W] -> [B,HW,C]: cells row by row; a view in channels_last memory."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


class Head(nn.Module):
    """Named branches on the same features; each has the interface of a ``Branch``."""

    def __init__(self, branches: Mapping[str, nn.Module], strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)
        self.strides = tuple(strides)
        self.anchor_points = AnchorPoints()

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the branches, in order."""
        return tuple(name for name, _ in self.named_children())

    def forward(self, name: str, features: Sequence[torch.Tensor]) -> Predictions:
        """Predictions of the branch ``name`` for ``features`` (one [B,C,H,W] per level)."""
        logits, distances = self.get_submodule(name)(features)
        sizes = [(x.shape[2], x.shape[3]) for x in features]
        points, strides = self.anchor_points(sizes, self.strides, logits.device)
        return Predictions(logits, distances, points, strides)


def no_autocast(like: torch.Tensor) -> AbstractContextManager[object]:
    """A block in which operations on the device of ``like`` run in the types of their arguments."""
    if torch.compiler.is_exporting():
        return nullcontext()  # exporting has no autocast, and other runtimes do not know it
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if is_autocast_available(kind) else nullcontext()


def distances_in_strides(predictions: Predictions) -> torch.Tensor:
    """Left, top, right, bottom [B,A,4] float32 in units of the stride.

    R = 1: the predicted numbers.  R > 1: the mean of each side's distribution over 0..R-1 (GFL,
    equation 5).
    """
    bins = predictions.reg_max
    with no_autocast(predictions.distances):
        distances = predictions.distances.float()
        if bins == 1:
            return distances
        weights = distances.unflatten(-1, (4, bins)).softmax(-1)  # [B,A,4,R]
        return weights @ torch.arange(bins, dtype=torch.float32, device=distances.device)


def decode_boxes(predictions: Predictions) -> torch.Tensor:
    """Boxes [B,A,4] float32, xyxy in input pixels; float32 also under autocast.

    Distances may be negative and boxes may leave the image: nothing is clipped here.
    """
    distances = distances_in_strides(predictions) * predictions.strides.float()[:, None]
    points = predictions.points.float()
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1)
