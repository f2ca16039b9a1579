"""Checkpoints of YOLOX nano to x as published by Megvii-BaseDetection (Apache-2.0).

The file is a dictionary whose entry ``model`` is a flat dictionary of tensors; in files of finished
runs these are the averaged weights.  Not supported: the legacy weights of the first release,
which expect normalized RGB images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from .errors import ImportFailed
from .imported import ImportedWeights, only_tensors, rename

LICENSE = "Apache-2.0"
PREPROCESS = {"channels": "bgr", "range": [0, 255], "letterbox": "top-left", "pad": 114}

_STAMP = "backbone.backbone.stem.conv.conv.weight"
_SIZES = {24: "tiny", 32: "s", 48: "m", 64: "l", 80: "x"}
_PLACES = [
    (r"backbone\.backbone\.stem\.conv\.", "backbone.stem.conv."),
    (r"backbone\.backbone\.dark([2-5])\.0\.", r"backbone.stage\1.down."),
    (r"backbone\.backbone\.dark([2-4])\.1\.", r"backbone.stage\1.mix."),
    (r"backbone\.backbone\.dark5\.1\.", "backbone.stage5.pool."),
    (r"backbone\.backbone\.dark5\.2\.", "backbone.stage5.mix."),
    (r"backbone\.lateral_conv0\.", "neck.lateral5."),
    (r"backbone\.C3_p4\.", "neck.mix_down4."),
    (r"backbone\.reduce_conv1\.", "neck.lateral4."),
    (r"backbone\.C3_p3\.", "neck.mix_down3."),
    (r"backbone\.bu_conv2\.", "neck.down3."),
    (r"backbone\.C3_n3\.", "neck.mix_up4."),
    (r"backbone\.bu_conv1\.", "neck.down4."),
    (r"backbone\.C3_n4\.", "neck.mix_up5."),
    (r"head\.stems\.", "head.one_to_many.stems."),
    (r"head\.cls_convs\.(\d)\.(\d)\.", r"head.one_to_many.classes.\1.\2."),
    (r"head\.reg_convs\.(\d)\.(\d)\.", r"head.one_to_many.boxes.\1.\2."),
    (r"head\.cls_preds\.(\d)\.", r"head.one_to_many.classes.\1.2."),
    (r"head\.reg_preds\.(\d)\.", r"head.one_to_many.boxes.\1.2."),
    (r"head\.obj_preds\.", "head.one_to_many.objectness."),
]
_PARTS = [
    (r"(mix\w*)\.m\.", r"\1.chain."),
    (r"(mix\w*)\.conv1\.", r"\1.enter."),
    (r"(mix\w*)\.conv2\.", r"\1.skip."),
    (r"(mix\w*)\.conv3\.", r"\1.merge."),
    (r"\.pool\.conv1\.", ".pool.enter."),
    (r"\.pool\.conv2\.", ".pool.merge."),
    (r"\.dconv\.", ".0."),
    (r"\.pconv\.", ".1."),
    (r"\.bn\.", ".norm."),
]


def matches(content: object) -> bool:
    """Whether this is a YOLOX checkpoint."""
    return _STAMP in _flat(content)


def convert(content: object, which: str = "ema") -> ImportedWeights:
    """The weights under our names.  which: ignored, the file holds one set of weights."""
    tensors = _flat(content)
    last = tensors["head.cls_preds.0.weight"]
    return ImportedWeights(
        family="yolox",
        size=_size(tensors),
        num_classes=last.shape[0],
        class_names=None,
        tensors=rename(tensors, _our_name),
        license=LICENSE,
        provenance={"project": "Megvii-BaseDetection/YOLOX"},
        preprocess=dict(PREPROCESS),
    )


def _flat(content: object) -> Mapping[str, torch.Tensor]:
    inner = content.get("model") if isinstance(content, dict) else None
    return only_tensors(inner) or only_tensors(content) or {}


def _size(tensors: Mapping[str, torch.Tensor]) -> str:
    base = len(tensors[_STAMP])
    size = "nano" if any(".dconv." in name for name in tensors) else _SIZES.get(base)
    if size is None or (size == "nano" and base != 16):
        raise ImportFailed("the checkpoint is a YOLOX of another size than nano, tiny, s, m, l, x")
    return size


def _our_name(name: str) -> str:
    for old, new in _PLACES:
        renamed, found = re.subn(f"^{old}", new, name)
        if found:
            break
    else:
        raise ImportFailed(f"the checkpoint has a tensor {name} that YOLOX does not have")
    for old, part in _PARTS:
        renamed = re.sub(old, part, renamed)
    return renamed
