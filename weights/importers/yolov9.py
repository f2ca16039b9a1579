"""Checkpoints of YOLOv9 t, s, m, c as published by MultimediaTechLab/YOLO (MIT).

The file is a flat dictionary of tensors named by layer number, or a Lightning checkpoint around it.
Not supported: the files of WongKinYiu/yolov9 (GPL-3.0), which name their tensors differently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from .errors import ImportFailed
from .imported import ImportedWeights, rename

LICENSE = "MIT"
PREPROCESS = {"channels": "rgb", "range": [0, 1], "letterbox": "center", "pad": 114}

BODY = {
    "0": "backbone.stem",
    "1": "backbone.stage2.down",
    "2": "backbone.stage2.mix",
    "3": "backbone.stage3.down",
    "4": "backbone.stage3.mix",
    "5": "backbone.stage4.down",
    "6": "backbone.stage4.mix",
    "7": "backbone.stage5.down",
    "8": "backbone.stage5.mix",
    "9": "neck.lateral5",
    "12": "neck.mix_down4",
    "15": "neck.mix_down3",
    "16": "neck.down3",
    "18": "neck.mix_up4",
    "19": "neck.down4",
    "21": "neck.mix_up5",
    "22": "head.one_to_many",
}
_SMALL = {"23": "pool5", "26": "mix4", "29": "mix3"}
_LARGE = {
    "23": "link3",
    "24": "link4",
    "25": "link5",
    "26": "stem",
    "27": "stage2.down",
    "28": "stage2.mix",
    "29": "stage3.down",
    "31": "stage3.mix",
    "32": "stage4.down",
    "34": "stage4.mix",
    "35": "stage5.down",
    "37": "stage5.mix",
}
_ELAN = {"conv1": "enter", "conv2": "step1", "conv3": "step2", "conv4": "merge"}
_POOL = {"conv1": "enter", "conv5": "merge"}
_CROSS_STAGE = {"conv1": "enter", "conv2": "skip", "conv3": "merge", "bottleneck": "chain"}
_TOWERS = {"anchor_conv": "boxes", "class_conv": "classes"}
_TWO_PATHS = {"conv1": "conv", "conv2": "pool"}
_REP = {"conv1": "wide", "conv2": "narrow"}
_STAMP = "22.heads.0.anchor_conv.0.conv.weight"


def matches(content: object) -> bool:
    """Whether this is a YOLOv9 checkpoint of this project."""
    return _STAMP in _flat(content)


def convert(content: object, which: str = "ema") -> ImportedWeights:
    """The weights under our names.

    which: only Lightning checkpoints may hold two sets; "ema" prefers the averaged one.
    Raises ImportFailed for a changed graph.
    """
    tensors = _flat(content, which)
    large = "2.conv2.0.conv1.conv.weight" in tensors
    layers = BODY | {k: f"auxiliary.{v}" for k, v in (_LARGE if large else _SMALL).items()}
    layers["38" if large else "30"] = "head.auxiliary"
    last = tensors["22.heads.0.class_conv.2.weight"]
    auxiliary = any(re.match(r"(2[3-9]|3\d)\.", name) for name in tensors)
    return ImportedWeights(
        family="yolov9",
        size=_size(tensors),
        num_classes=last.shape[0],
        class_names=None,
        tensors=rename(tensors, lambda name: _our_name(name, layers)),
        license=LICENSE,
        provenance={"project": "MultimediaTechLab/YOLO"},
        preprocess=dict(PREPROCESS),
        notes=() if auxiliary else ("it has no auxiliary branch, which only training uses",),
    )


def _flat(content: object, which: str = "ema") -> Mapping[str, torch.Tensor]:
    """Tensors by layer number; empty if this is not a YOLOv9 checkpoint."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        return {}
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    prefixes = ["ema.model.", "model.model."] if which == "ema" else ["model.model."]
    for prefix in (*prefixes, "model.", ""):
        if prefix + _STAMP in tensors:
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
    return {}


def _size(tensors: Mapping[str, Any]) -> str:
    stem = len(tensors["0.conv.weight"])
    small = "2.conv2.conv.weight" in tensors
    size = {(16, True): "t", (32, True): "s", (32, False): "m", (64, False): "c"}.get((stem, small))
    if size is None:
        raise ImportFailed("the checkpoint is a YOLOv9 of another size than t, s, m and c")
    return size


def _our_name(name: str, layers: Mapping[str, str]) -> str | None:
    layer, *path = name.split(".")
    try:
        renamed = _path(path, layers[layer])
    except (KeyError, IndexError, ValueError) as error:
        raise ImportFailed(
            f"the checkpoint has a tensor {name} that YOLOv9 t, s, m and c do not have"
        ) from error
    if renamed is None:
        return None
    words = ("norm" if part == "bn" else part for part in renamed)
    return ".".join((layers[layer], *words))


def _path(path: list[str], place: str) -> list[str] | None:
    """The path inside a layer, which depends on the layer's place in our model."""
    if place.startswith("head."):
        _, level, tower, *rest = path
        return [_TOWERS[tower], level, *rest] if tower != "anc2vec" else None
    if place.endswith(("link3", "link4", "link5")):
        return path[1:]  # a plain convolution in our model, a named one in the file
    if path[0] in ("conv", "bn"):
        return path
    if place.endswith(("lateral5", "pool5")):
        return [_POOL[path[0]], *path[1:]]
    if place.rsplit(".", 1)[-1] in ("down", "down3", "down4"):
        return [_TWO_PATHS[path[0]], *path[1:]]
    first, *rest = path
    if rest[0] == "0":
        return [_ELAN[first], "0", *_cross_stage(rest[1:])]
    return [_ELAN[first], *rest]


def _cross_stage(path: list[str]) -> list[str]:
    first, *rest = path
    if first == "bottleneck" and rest[1] == "conv1":  # the re-parameterized convolution
        return ["chain", rest[0], "conv1", _REP[rest[2]], *rest[3:]]
    return [_CROSS_STAGE[first], *rest]
