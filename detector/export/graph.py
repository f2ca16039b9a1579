"""The exported function: a detector as one graph of tensor operations.

``images`` [B,3,H,W], RGB, float32 in 0..1 (or uint8 0..255), become ``detections`` [B,max_det,6]:
x1, y1, x2, y2 in pixels of the input, score, class; best first, rows of score 0 at the end.  The
graph contains the channel order and range of the family, decoding in float32, and the choice of
detections.  Families without a one-to-one head get NMS in plain tensor operations (``nms.py``),
which every runtime has.  With ``raw`` the outputs are ``boxes`` [B,A,4] and ``scores`` [B,A,C] of
every anchor point; with ``raw="output0"`` it is one tensor ``output0`` [B,4+C,A].

Left out: reading and letterboxing images (docs/export.md).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import nn

from ..evaluate.postprocess import branches_for, top_detections, uses_nms
from ..models.detector import Detector
from ..models.float32_stages import to_dtype
from ..models.head import decode_boxes
from .nms import CANDIDATES, nms_rows

DETECTIONS = ("detections",)
RAW = ("boxes", "scores")
JOINED = ("output0",)
"""Names of the outputs."""
CELLS = 21
"""Anchor points of a square of 32 pixels: 16 + 4 + 1."""
MAX_SIDE = 8192
MAX_BATCH = 4096
"""Upper ends of dynamic inputs: torch.export asks for a range."""


@dataclass(frozen=True)
class Shape:
    """The input of a file.

    size: (height, width), fixed or, with ``dynamic``, the usual one.  batch: images per call of a
    fixed file.  dynamic: any batch, and any size in multiples of the stride.
    """

    size: tuple[int, int]
    batch: int = 1
    dynamic: bool = False


class ExportGraph(nn.Module):
    """The exported function, on a fused copy of the detector with one head branch.

    nms: use the one-to-many branch with NMS, as families without a one-to-one branch always do.
    iou, agnostic: of NMS.  max_det: rows of the output.  raw: output all anchor points, ``output0``
    in one tensor.  uint8:
    images are uint8 in 0..255.  Raises BranchError where the model lacks the branch.
    """

    def __init__(
        self,
        model: Detector,
        *,
        nms: bool = False,
        iou: float = 0.7,
        agnostic: bool = False,
        max_det: int = 300,
        raw: bool | str = False,
        uint8: bool = False,
    ) -> None:
        super().__init__()
        (self.branch,) = branches_for(nms, model.branches)
        self.nms = uses_nms(nms, model.branches) and not raw
        self.joined = raw == "output0"
        self.iou, self.agnostic, self.max_det = iou, agnostic, max_det
        self.raw, self.uint8 = bool(raw), uint8
        self.model = copy.deepcopy(model).fuse((self.branch,)).requires_grad_(False)
        self.eval()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        if self.joined:
            return JOINED
        return RAW if self.raw else DETECTIONS

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the computation, but for stages that stay float32; detections are always float32."""
        half = (p.dtype for p in self.model.parameters() if p.dtype == torch.float16)
        return next(half, torch.float32)

    def halve(self) -> None:
        """Compute in float16, except the stages that computed in float32 in training."""
        to_dtype(self.model, torch.float16)

    @property
    def smallest_side(self) -> int:
        """Least side of a dynamic file, which has enough anchor points to choose from."""
        needed = 1 if self.raw else (CANDIDATES if self.nms else self.max_det)
        return math.ceil(math.sqrt(needed / CELLS)) * self.model.max_stride

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """images: [B,3,H,W], or [B,1,H,W] of a gray model -> detections [B,max_det,6], or boxes
        [B,A,4] and scores [B,A,C], or [B,4+C,A]: center, width, height and scores."""
        if self.uint8:
            images = images.float() / 255
        found = self.model(images, branches=(self.branch,))[self.branch]
        if self.raw:
            boxes, scores = decode_boxes(found), found.logits.float().sigmoid()
            if not self.joined:
                return boxes, scores
            low, high = boxes.split(2, -1)
            return torch.cat(((low + high) / 2, high - low, scores), -1).transpose(1, 2)
        if not self.nms:
            return top_detections(found, self.max_det)
        candidates = top_detections(found, CANDIDATES)  # [B,K,6]
        return nms_rows(candidates, iou=self.iou, max_det=self.max_det, agnostic=self.agnostic)

    def example(self, shape: Shape) -> torch.Tensor:
        """Images to trace with.  A dynamic batch is traced with 2: torch takes a 1 for fixed."""
        batch = max(shape.batch, 2) if shape.dynamic else shape.batch
        sizes = (batch, self.model.channels, *shape.size)
        images = torch.rand(sizes, generator=torch.Generator().manual_seed(0))
        images = (images * 255).to(torch.uint8) if self.uint8 else images
        return images.to(self.device)

    def program(
        self, shape: Shape, module: nn.Module | None = None
    ) -> torch.export.ExportedProgram:
        """The graph as torch.export records it.  module: records this one, which takes the same
        images."""
        dynamic = None
        if shape.dynamic:
            stride, least = self.model.max_stride, self.smallest_side // self.model.max_stride
            most = MAX_SIDE // stride
            height = stride * torch.export.Dim("height", min=least, max=most)
            width = stride * torch.export.Dim("width", min=least, max=most)
            batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
            dynamic = {"images": {0: batch, 2: height, 3: width}}
        with torch.no_grad():
            return torch.export.export(
                module or self, (self.example(shape),), dynamic_shapes=dynamic, strict=False
            )
