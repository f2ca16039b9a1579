"""Name -> Detector.

One module a family; each has ``SIZES`` (its table) and ``build(size, num_classes, class_width)``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from torch import Tensor

from . import yolo11, yolo26, yolov8, yolov9, yolox
from .detector import Detector
from .predictions import AUXILIARY

FAMILIES = {
    "yolo26": yolo26,
    "yolo11": yolo11,
    "yolov8": yolov8,
    "yolov9": yolov9,
    "yolox_": yolox,
}
"""Start of a name -> module of the family."""
NAMES = {
    f"{family}{size}": (family, size)
    for family, module in FAMILIES.items()
    for size in module.SIZES
}
"""Every name that can be built -> (family, size)."""


def build(name: str, num_classes: int, class_width: int | None = None) -> Detector:
    """A detector with fresh weights, drawn from torch's global generator (seed it to repeat them).

    class_width: width of the class towers where it differs from the default, as in some checkpoints
    of other projects. Raises ValueError for an unknown name (with the nearest known ones) and for
    num_classes below 1.
    """
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(NAMES)}"
        raise ValueError(f"there is no model named {name!r}: {hint}")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}: a detector needs at least 1 class")
    family, size = NAMES[name]
    return FAMILIES[family].build(size, num_classes, class_width)


def class_width_of(tensors: Mapping[str, Tensor]) -> int | None:
    """Width of the class towers in a state dict of one of our models; None where it has none."""
    towers = re.compile(r"head\.\w+\.classes\.0\.(\d+)\.weight")
    for key, tensor in tensors.items():
        if towers.fullmatch(key) and not key.startswith(f"head.{AUXILIARY}."):
            return int(tensor.shape[1])
    return None
