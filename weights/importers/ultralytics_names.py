"""Names of tensors in Ultralytics' YOLO26, YOLO11 and YOLOv8 -> our names.

A layer is identified by its number in the original's list, a block by the names of its parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .errors import ImportFailed

_BACKBONE = [
    *["stem", "stage2.down", "stage2.mix", "stage3.down", "stage3.mix", "stage4.down"],
    *["stage4.mix", "stage5.down", "stage5.mix", "pool"],
]
_NECK = ["mix_down4", "mix_down3", "down3", "mix_up4", "down4", "mix_up5"]
_BRANCHES = {
    "cv2": "one_to_many.boxes",
    "cv3": "one_to_many.classes",
    "one2one_cv2": "one_to_one.boxes",
    "one2one_cv3": "one_to_one.classes",
}
_BLOCK = {"cv1": "enter", "cv2": "merge"}
_CROSS_STAGE = {"cv1": "enter", "cv2": "skip", "cv3": "merge"}
_BOTTLENECK = {"cv1": "conv1", "cv2": "conv2"}
_ATTENTION = {"qkv": "qkv", "proj": "project", "pe": "position"}


@dataclass(frozen=True)
class Layout:
    """How a family numbers its layers.

    layers: number -> our path.  head: number of the head.  paired: class towers are pairs of
    convolutions.  stems: width of the stem -> size.
    """

    layers: dict[str, str]
    head: str
    paired: bool
    stems: dict[int, str]


def _layers(neck: tuple[int, ...], **others: str) -> dict[str, str]:
    layers = {str(i): f"backbone.{name}" for i, name in enumerate(_BACKBONE)}
    return layers | {str(i): f"neck.{name}" for i, name in zip(neck, _NECK, strict=True)} | others


_YOLO26 = Layout(
    _layers((13, 16, 17, 19, 20, 22)) | {"10": "backbone.attention"},
    head="23",
    paired=True,
    stems={16: "n", 32: "s", 64: "m", 96: "x"},
)
_YOLOV8 = Layout(
    _layers((12, 15, 16, 18, 19, 21)),
    head="22",
    paired=False,
    stems={16: "n", 32: "s", 48: "m", 64: "l", 80: "x"},
)
LAYOUTS = {"yolo26": _YOLO26, "yolo11": _YOLO26, "yolov8": _YOLOV8}


def our_name(name: str, known: Mapping[str, torch.Tensor], layout: Layout) -> str | None:
    """Our name of a tensor ``LAYER.PATH``; None for the constants of the distance distribution.

    known: all tensors of the file.  Raises ImportFailed for a tensor that these families lack.
    """
    layer, *path = name.split(".")
    try:
        if layer == layout.head:
            renamed = _head_path(path, layout.paired) if path[0] != "dfl" else None
        else:
            renamed = [layout.layers[layer], *_block_path(path, layer, known)]
    except (KeyError, IndexError, ValueError) as error:
        raise ImportFailed(
            f"the checkpoint has a tensor {name} that YOLO26, YOLO11 and YOLOv8 do not have: "
            "models with a changed graph cannot be imported"
        ) from error
    if renamed is None:
        return None
    return ".".join("norm" if part == "bn" else part for part in renamed)


def _head_path(path: list[str], paired: bool) -> list[str]:
    """BRANCH.LEVEL.LAYER or BRANCH.LEVEL.PAIR.MEMBER -> our branch, level and layer."""
    branch, level, first, *rest = path
    if branch.endswith("cv3") and paired:
        number, rest = (4, rest) if first == "2" else (2 * int(first) + int(rest[0]), rest[1:])
        first = str(number)
    if level not in ("0", "1", "2"):
        raise ValueError(f"level {level}")
    return ["head", _BRANCHES[branch], level, first, *rest]


def _block_path(path: list[str], layer: str, known: Mapping[str, torch.Tensor]) -> list[str]:
    """The path inside a layer: a plain convolution, or a block with a chain ``m``."""
    if path[0] in ("conv", "bn"):
        return path
    if path[0] != "m":
        return [_BLOCK[path[0]], *path[1:]]
    crosses = f"{layer}.m.{path[1]}.cv3.conv.weight" in known
    return ["chain", path[1], *_link_path(path[2:], crosses)]


def _link_path(path: list[str], crosses: bool) -> list[str]:
    """The path inside a link: a cross-stage block, a bottleneck, an attention block, or both of the
    last two."""
    first, *rest = path
    if first in ("0", "1"):
        return [first, *_link_path(rest, False)]
    if first == "attn":
        return ["attention", _ATTENTION[rest[0]], *rest[1:]]
    if first == "ffn":
        return ["feed", *rest]
    if crosses and first == "m":
        return ["chain", rest[0], _BOTTLENECK[rest[1]], *rest[2:]]
    return [(_CROSS_STAGE if crosses else _BOTTLENECK)[first], *rest]
