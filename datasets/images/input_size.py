"""The size of the network's input: the same for all images, or cut to the shape of each (rect).

With ``step`` (rect), the input of an image is what the scaled image needs, with sides rounded up to
multiples of ``step``.  It depends on the size of the image alone, so training, validation,
prediction and exported files give the image the same pixels, whatever else is in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from .depth import AUTO
from .image import scaled_size

Size = tuple[int, int]
"""(height, width)."""


@dataclass(frozen=True)
class InputSize:
    """height, width: images are scaled to just fit.  step: 0 pads every image to height x width;
    else a stride: the input of an image is no larger than needed.  least: smallest side of such an
    input.  pixels: the rule by which images of more than 8 bits are read (depth.py)."""

    height: int
    width: int
    step: int = 0
    least: int = 0
    pixels: str = AUTO

    @staticmethod
    def of(size: int | Size | InputSize) -> InputSize:
        """One side, or height and width, as an InputSize."""
        if isinstance(size, InputSize):
            return size
        height, width = (size, size) if isinstance(size, int) else size
        return InputSize(height, width)

    @property
    def whole(self) -> Size:
        """(height, width): the largest input."""
        return self.height, self.width

    @property
    def plain(self) -> int | Size:
        """One number for a square, else (height, width), as checkpoints have it."""
        return self.height if self.height == self.width else self.whole

    def shape(self, size: Size) -> Size:
        """(height, width) of the input for an image of ``size``."""
        if not self.step:
            return self.whole
        height, width = (
            max(-(-side // self.step) * self.step, self.least)
            for side in scaled_size(size, self.whole)
        )
        return height, width

    def __str__(self) -> str:
        return str(self.height) if self.height == self.width else f"{self.height}x{self.width}"
