"""Detection checkpoints of Ultralytics: YOLO26, YOLO11 and YOLOv8.

Such a file holds a pickled model; ``unpickle`` turns it into stubs, and this module walks the stubs
for tensors and class names.  A plain state dict is read too.  Not supported: other tasks, models
with a changed graph (P2, P6), YOLOv10, YOLOv7 and older.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ...files.counted import counted
from .errors import ImportFailed
from .imported import ImportedWeights, Tensors, only_tensors, rename, unfuse
from .rebuild import Stub
from .ultralytics_names import LAYOUTS, our_name

LICENSE = "AGPL-3.0"
PREPROCESS = {"channels": "rgb", "range": [0, 1], "letterbox": "center", "pad": 114}
MAX_DEPTH = 32


def matches(content: object) -> bool:
    """Whether this is a checkpoint of Ultralytics."""
    if tensors := only_tensors(content):
        return all(re.match(r"model\.\d+\.", name) for name in tensors)
    stubs = [content.get(key) for key in ("model", "ema")] if isinstance(content, dict) else []
    return any(isinstance(s, Stub) and s.kind.module.startswith("ultralytics.") for s in stubs)


def convert(content: dict[str, Any], which: str = "ema") -> ImportedWeights:
    """The weights under our names.

    which: "ema" for the averaged weights if the file has them, "raw" for the others.  Raises
    ImportFailed for other tasks and graphs.
    """
    model = _choose(content, which)
    tensors = dict(state_tensors(model)) if model else dict(only_tensors(content) or {})
    tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    family = _family(tensors)
    layout = LAYOUTS[family]
    renamed = rename(tensors, lambda name: our_name(name, tensors, layout))
    count = _count_classes(renamed)
    facts = {key: str(content[key]) for key in ("version", "date") if model and content.get(key)}
    return ImportedWeights(
        family=family,
        size=_size(tensors, layout.stems),
        num_classes=count,
        class_names=_class_names(model, count),
        tensors=unfuse(renamed),
        license=LICENSE,
        provenance={"project": "Ultralytics", **facts},
        preprocess=dict(PREPROCESS),
        notes=_notes(renamed, family),
    )


def state_tensors(
    module: Stub, prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and persistent buffers of a module's stub, named as in its state dict."""
    if depth > MAX_DEPTH:
        raise ImportFailed(
            f"the checkpoint nests modules more than {MAX_DEPTH} deep: unknown format"
        )
    volatile = module.state.get("_non_persistent_buffers_set", ())
    for kind in ("_parameters", "_buffers"):
        for name, tensor in _items(module, kind):
            if isinstance(tensor, torch.Tensor) and name not in volatile:
                yield f"{prefix}{name}", tensor
    for name, child in _items(module, "_modules"):
        if isinstance(child, Stub):
            yield from state_tensors(child, f"{prefix}{name}.", depth + 1)


def _items(module: Stub, kind: str) -> list[tuple[Any, Any]]:
    found = module.state.get(kind)
    return list(found.items()) if isinstance(found, dict) else []


def _choose(content: dict[str, Any], which: str) -> Stub | None:
    """The pickled model to import; None for a plain state dict."""
    order = ("ema", "model") if which == "ema" else ("model", "ema")
    model = next((content[key] for key in order if isinstance(content.get(key), Stub)), None)
    if model and model.kind.name != "DetectionModel":
        raise ImportFailed(
            f"the checkpoint holds a {model.kind.name}: only detection models can be imported"
        )
    return model


def _family(tensors: Mapping[str, torch.Tensor]) -> str:
    """YOLOv8 has its head at layer 22, the others at 23; YOLO26 has 4 numbers per box, YOLO11
    64."""
    for branch in ("cv2", "one2one_cv2"):
        if f"22.{branch}.0.2.bias" in tensors:
            return "yolov8"
        if (bias := tensors.get(f"23.{branch}.0.2.bias")) is not None:
            return "yolo26" if len(bias) == 4 else "yolo11"
    raise ImportFailed("the checkpoint is neither YOLO26 nor YOLO11 nor YOLOv8 for detection")


def _size(tensors: Mapping[str, torch.Tensor], stems: Mapping[int, str]) -> str:
    """The size, from the width of the stem; m and l of YOLO26 and YOLO11 differ in their chains."""
    stem = tensors.get("0.conv.weight")
    size = stems.get(len(stem)) if stem is not None else None
    if size is None:
        raise ImportFailed("the checkpoint has none of the sizes n, s, m, l and x")
    longer = size == "m" and "l" not in stems.values() and "6.m.1.cv1.conv.weight" in tensors
    return "l" if longer else size


def _count_classes(renamed: Tensors) -> int:
    """The number of classes, from the last convolution of a class tower."""
    last = re.compile(r"head\.\w+\.classes\.0\.\d\.weight")
    for name, tensor in renamed.items():
        if last.fullmatch(name):
            return len(tensor)
    raise ImportFailed("the checkpoint has no class towers")


def _class_names(model: Stub | None, count: int) -> tuple[str, ...] | None:
    names = model.state.get("names") if model else None
    if isinstance(names, dict):
        names = [names.get(i) for i in range(len(names))]
    if not isinstance(names, list):
        return None
    if len(names) != count or not all(isinstance(name, str) for name in names):
        named = counted(len(names), "class")
        raise ImportFailed(f"the checkpoint names {named} but its head has {count}")
    return tuple(names)


def _notes(renamed: Tensors, family: str) -> tuple[str, ...]:
    notes = []
    if not any(".norm." in name for name in renamed):
        notes.append(
            "its batch norms were folded: training measures their statistics before the first step"
        )
    missing = [
        branch
        for branch in ("one_to_many", "one_to_one")
        if not any(name.startswith(f"head.{branch}.") for name in renamed)
    ]
    if family == "yolo26" and missing:
        notes.append(f"it lacks the head branch {missing[0]}")
    return tuple(notes)
