"""A detector: images -> Predictions per head branch.

Callers pass RGB images, uint8 or float in 0..1; a model that was trained on another channel order
or range converts them itself.  The coarsest stride is 32, so image sides are multiples of 32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...datasets.images.image import FILL
from ...weights.architecture import Architecture
from ...weights.checkpoint import GRAY
from .blocks import Add, Fusable
from .detector_like import fitting_size, sides_of
from .gray import to_gray
from .head import Head
from .predictions import AUXILIARY, ONE_TO_ONE, Predictions
from .pyramid import Features


class Detector(nn.Module):
    """Backbone, neck and head.

    name: of the model, such as yolo26n.  num_classes: C.  strides: pixels per cell of each level.
    detach_one_to_one: in training the one-to-one branch sends no gradients into the features.
    auxiliary: (inputs, levels of the backbone) -> features of the branch ``auxiliary``, in families
    that have one.  bgr, scale: what the first convolution expects, if not RGB in 0..1.  letterbox:
    where the image lies in the square input, ``center`` or ``top-left``; the caller does this.
    unfused: the architecture before norms were folded, where the detector simulates 8 bits.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        backbone: nn.Module,
        neck: nn.Module,
        head: Head,
        *,
        auxiliary: nn.Module | None = None,
        bgr: bool = False,
        scale: float = 1.0,
        letterbox: str = "center",
    ) -> None:
        super().__init__()
        self.name = name
        self.num_classes = num_classes
        self.bgr = bgr
        self.scale = scale
        self.letterbox = letterbox
        self.detach_one_to_one = True
        self.unfused: Architecture | None = None
        self.backbone = backbone
        self.neck = neck
        self.auxiliary = auxiliary
        self.head = head

    @property
    def strides(self) -> tuple[int, ...]:
        return self.head.strides

    @property
    def channels(self) -> int:
        """Channels of the images that the first convolution reads: 3 (RGB) or 1 (gray)."""
        first = next(part for part in self.backbone.modules() if isinstance(part, nn.Conv2d))
        return 3 if first.in_channels % 3 == 0 else 1

    @property
    def max_stride(self) -> int:
        """Image sides must be multiples of this."""
        return max(self.strides)

    def fitting_size(self, wanted: int) -> int:
        """``wanted`` pixels rounded up to a multiple of ``max_stride``."""
        return fitting_size(wanted, self.max_stride)

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the head branches this detector has."""
        return self.head.branches

    @property
    def class_keys(self) -> tuple[str, ...]:
        """Names of the parameters with one row per class: the last convolutions of class towers."""
        keys = []
        for name, branch in self.head.named_children():
            for level, tower in enumerate(branch.get_submodule("classes").children()):
                path = f"head.{name}.classes.{level}.{len(list(tower.children())) - 1}"
                keys += [f"{path}.weight", f"{path}.bias"]
        return tuple(keys)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """Parts in the order of the data path; each key is the prefix of its parameters' names."""
        parts: dict[str, nn.Module] = {}
        for room, whole in self.named_children():
            split = whole.named_children() if room != "auxiliary" else [("", whole)]
            for name, part in split:
                if any(True for _ in part.parameters()):
                    parts[f"{room}.{name}".rstrip(".")] = part
        return parts

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The expected input, as stored in a checkpoint for other runtimes."""
        return {
            "channels": GRAY if self.channels == 1 else "bgr" if self.bgr else "rgb",
            "range": [0, int(self.scale) if self.scale.is_integer() else self.scale],
            "letterbox": self.letterbox,
            "pad": FILL,
        }

    def preprocess(self, images: torch.Tensor) -> torch.Tensor:
        """[B,3,H,W] RGB or [B,1,H,W] gray, uint8 or float in 0..1, to what the first convolution
        expects."""
        unit = (255 if images.dtype == torch.uint8 else 1) / self.scale
        seen = to_gray(images) if self.channels == 1 else images
        inputs = seen.to(next(self.parameters()).dtype)
        if unit != 1:  # in place, unless it is the tensor of the caller
            inputs = inputs / unit if inputs is images else inputs.div_(unit)
        return inputs.flip(1) if self.bgr else inputs

    def forward(
        self, images: torch.Tensor, branches: tuple[str, ...] | None = None
    ) -> dict[str, Predictions]:
        """Predictions of the named branches (None: all); the others are not computed.

        images: [B,3,H,W] RGB, uint8 or float in 0..1; a model of one channel also takes
        [B,1,H,W].  Raises ValueError if a side is not a
        multiple of ``max_stride`` or a branch does not exist.
        """
        height, width = images.shape[-2:]
        if height % self.max_stride or width % self.max_stride:
            raise ValueError(
                f"images are {height} x {width}: both sides must be multiples of {self.max_stride}"
            )
        wanted = self.branches if branches is None else branches
        if unknown := [name for name in wanted if name not in self.branches]:
            raise ValueError(
                f"{self.name} has no branch {unknown[0]!r}: it has {', '.join(self.branches)}"
            )
        inputs = self.preprocess(images)
        levels = self.backbone(inputs)
        predictions = {}
        deployed = [name for name in wanted if name != AUXILIARY]
        if deployed:
            features = self.neck(levels)
            for name in deployed:
                predictions[name] = self.head(name, self._features_of(name, features))
        if AUXILIARY in wanted and self.auxiliary is not None:
            predictions[AUXILIARY] = self.head(AUXILIARY, self.auxiliary(inputs, levels))
        return predictions

    def _features_of(self, name: str, features: Features) -> Features:
        """The features that a branch reads."""
        if name == ONE_TO_ONE and self.training and self.detach_one_to_one:
            return tuple(level.detach() for level in features)
        return features

    def drop(self, branches: Iterable[str]) -> None:
        """Remove head branches, in place."""
        for name in tuple(branches):
            delattr(self.head, name)
            if name == AUXILIARY:
                self.auxiliary = None

    def fuse(self, branches: tuple[str, ...] | None = None) -> Detector:
        """Fold batch norms into convolutions, in place; if given, keep only ``branches``."""
        self.drop(name for name in self.branches if branches is not None and name not in branches)
        for module in list(self.modules()):
            if isinstance(module, Fusable):
                module.fuse()
        return self.eval()

    def counts(self, image_size: int | tuple[int, int]) -> tuple[int, int, int, float]:
        """Layers, parameters, parameters with gradients, and GFLOPs for one image."""
        about = self.describe(image_size)
        layers = sum(1 for m in self.modules() if not list(m.children()) and not isinstance(m, Add))
        gradients = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return layers, about["parameters"], gradients, about["gflops"]

    def describe(self, image_size: int | tuple[int, int] = 640) -> dict[str, Any]:
        """Parameters and GFLOPs (2 per multiply-add, all branches) for one image.

        image_size: a side, or (height, width)."""
        shadow = copy.deepcopy(self).to("meta").eval()  # the meta device computes only shapes
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            shadow(torch.empty(1, 3, *sides_of(image_size), device="meta"))
        return {
            "name": self.name,
            "num_classes": self.num_classes,
            "image_size": image_size,
            "parameters": sum(p.numel() for p in self.parameters()),
            "gflops": counter.get_total_flops() / 1e9,
            "branches": list(self.branches),
        }
