"""Test-time augmentation (``augment=True``): a detector that looks at each input several times.

The looks are LOOKS: the input as it is and mirrored, and at other sizes.  Their detections are
joined by weighted boxes fusion (``evaluate/fusion.py``), also where the head needs no NMS.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..evaluate.fusion import fuse, heard
from ..evaluate.postprocess import Detections, branches_for, postprocess
from ..export.exported import ExportedDetector, predictions_of_rows
from ..models.detector_like import DetectorLike
from ..models.predictions import ONE_TO_ONE, Predictions
from ..options.detect import DetectOptions
from ..options.errors import UsageError


@dataclass(frozen=True)
class Look:
    """One look at the input.  scale: of its sides.  mirrored: left and right are swapped."""

    scale: float
    mirrored: bool

    def size(self, images: Tensor, stride: int) -> tuple[int, int]:
        """(height, width) that ``images`` [B,3,H,W] are seen at: multiples of the stride."""
        sides = (max(round(side * self.scale / stride), 1) * stride for side in images.shape[2:])
        height, width = sides
        return height, width

    def of(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """What is seen of ``images`` [B,3,H,W] at ``size``."""
        seen = images
        if size != images.shape[2:]:
            seen = F.interpolate(images.float(), size, mode="bilinear", antialias=True)
            whole = images.dtype == torch.uint8
            seen = seen.round().clamp(0, 255).to(images.dtype) if whole else seen.to(images.dtype)
        return seen.flip(3) if self.mirrored else seen

    def back(self, found: Detections, size: tuple[int, int], whole: torch.Size) -> Detections:
        """Detections at ``size`` in the pixels of the images, whose sides are ``whole``."""
        boxes = found.boxes
        if self.mirrored:
            x1, y1, x2, y2 = boxes.unbind(1)
            boxes = torch.stack((size[1] - x2, y1, size[1] - x1, y2), 1)
        boxes = boxes * boxes.new_tensor((whole[1] / size[1], whole[0] / size[0]) * 2)
        return Detections(boxes, found.scores, found.labels)


LOOKS = (Look(1.0, False), Look(1.0, True), Look(0.8, False), Look(1.25, True))


class Augmented(nn.Module):
    """A detector with its own detections of several looks as predictions, without NMS after it."""

    branches = (ONE_TO_ONE,)

    def __init__(self, model: DetectorLike, detect: DetectOptions) -> None:
        super().__init__()
        self.model = model
        self.detect = detect
        self.letterbox = model.letterbox
        self.num_classes = model.num_classes
        self.max_stride = model.max_stride

    def forward(
        self, images: Tensor, branches: tuple[str, ...] | None = None
    ) -> dict[str, Predictions]:
        """images: [B,3,H,W] RGB, uint8 or float in 0..1."""
        looks = [list(found) for found in self._looks(images)]
        rows = images.new_zeros((len(images), self.detect.max_det, 6), dtype=torch.float32).cpu()
        for row, parts in zip(rows, zip(*looks, strict=True), strict=True):
            found = fuse(parts).select(slice(self.detect.max_det))
            columns = (found.boxes, found.scores[:, None], found.labels[:, None].float())
            row[: len(found)] = torch.cat(columns, 1)
        return {ONE_TO_ONE: predictions_of_rows(rows, self.num_classes)}

    def _looks(self, images: Tensor) -> Iterator[Iterator[Detections]]:
        """The detections of each image, look by look, in the pixels of ``images``."""
        reads = branches_for(self.detect.nms, self.model.branches)
        wanted = heard(self.detect, len(LOOKS))
        for look in LOOKS:
            size = look.size(images, self.max_stride)
            found = postprocess(self.model(look.of(images, size), branches=reads), wanted)
            yield (look.back(each, size, images.shape[2:]) for each in found)


def augmented(
    model: DetectorLike, detect: DetectOptions
) -> tuple[Augmented, DetectOptions]:
    """``model`` with several looks, and the options to read it with.  Raises UsageError for a file
    of one input size."""
    files = [part for part in model.modules() if isinstance(part, ExportedDetector)]
    if any(not file.about.dynamic for file in files):
        raise UsageError(
            "augment=True: the exported file takes images of one size; export with dynamic=True"
        )
    return Augmented(model, detect), replace(detect, nms=False)
