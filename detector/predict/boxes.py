"""The boxes of one image, in every form that scripts ask for."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

Array = torch.Tensor | np.ndarray


class Boxes:
    """Boxes [D,6] (x1, y1, x2, y2, confidence, class) or, of tracks, [D,7] with the id in front of
    the confidence; best first.

    data: a float32 tensor, or an array after ``numpy()``.  orig_shape: (height, width) of the
    image.
    """

    def __init__(self, data: Array, orig_shape: tuple[int, int]) -> None:
        self.data: Any = data[None] if data.ndim == 1 else data
        self.orig_shape = orig_shape
        if self.data.ndim != 2 or self.data.shape[1] not in (6, 7):
            raise ValueError(f"boxes have the shape {list(data.shape)}, expected [D,6] or [D,7]")

    @property
    def xyxy(self) -> Any:
        """Corners [D,4] in pixels."""
        return self.data[:, :4]

    @property
    def xywh(self) -> Any:
        """Center and size [D,4] in pixels."""
        low, high = self.data[:, :2], self.data[:, 2:4]
        join = torch.cat if isinstance(self.data, torch.Tensor) else np.concatenate
        return join(((low + high) / 2, high - low), 1)

    @property
    def xyxyn(self) -> Any:
        """Corners [D,4] relative to the image."""
        return self._relative(self.xyxy)

    @property
    def xywhn(self) -> Any:
        """Center and size [D,4] relative to the image."""
        return self._relative(self.xywh)

    def _relative(self, boxes: Any) -> Any:
        height, width = self.orig_shape
        relative = copy.deepcopy(boxes)
        relative[:, 0::2] /= width
        relative[:, 1::2] /= height
        return relative

    @property
    def conf(self) -> Any:
        """Confidences [D]."""
        return self.data[:, -2]

    @property
    def cls(self) -> Any:
        """Class ids [D], as floats."""
        return self.data[:, -1]

    @property
    def is_track(self) -> bool:
        return bool(self.data.shape[1] == 7)

    @property
    def id(self) -> Any:
        """Track ids [D]; None if these are no tracks."""
        return self.data[:, 4] if self.is_track else None

    @property
    def shape(self) -> Any:
        return self.data.shape

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Boxes:
        """The boxes at an int, slice, mask [D] or indices."""
        return Boxes(self.data[index], self.orig_shape)

    def __iter__(self) -> Iterator[Boxes]:
        return (self[index] for index in range(len(self)))

    def numpy(self) -> Boxes:
        """The same with NumPy arrays."""
        data = self.data.cpu().numpy() if isinstance(self.data, torch.Tensor) else self.data
        return Boxes(data, self.orig_shape)

    def to(self, *args: Any, **kwargs: Any) -> Boxes:
        """The same as tensors; arguments as of ``torch.Tensor.to``."""
        return Boxes(torch.as_tensor(self.data).to(*args, **kwargs), self.orig_shape)

    def cpu(self) -> Boxes:
        return self.to("cpu") if isinstance(self.data, torch.Tensor) else self

    def cuda(self) -> Boxes:
        return self.to("cuda")

    def __repr__(self) -> str:
        return f"Boxes({len(self)} in {self.orig_shape[1]}x{self.orig_shape[0]})\n{self.data}"
