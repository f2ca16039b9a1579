"""Files as other projects write them, made from our models: names and pickled objects."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import torch
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.predictions import ONE_TO_ONE

State = dict[str, torch.Tensor]

_BACKBONE = [
    *["backbone.stem", "backbone.stage2.down", "backbone.stage2.mix", "backbone.stage3.down"],
    *["backbone.stage3.mix", "backbone.stage4.down", "backbone.stage4.mix"],
    *["backbone.stage5.down", "backbone.stage5.mix"],
]
_NECK = [
    *["-", "-", "neck.mix_down4", "-", "-", "neck.mix_down3", "neck.down3", "-"],
    *["neck.mix_up4", "neck.down4", "-", "neck.mix_up5"],
]
YOLO26 = [*_BACKBONE, "backbone.pool", "backbone.attention", *_NECK, "head"]
YOLOV8 = [x for x in YOLO26 if x != "backbone.attention"]
YOLOV9 = [*_BACKBONE, "neck.lateral5", *_NECK, "head.one_to_many"]
YOLOV9_SMALL = [
    *[*YOLOV9, "auxiliary.pool5", "-", "-", "auxiliary.mix4", "-", "-", "auxiliary.mix3"],
    "head.auxiliary",
]
YOLOV9_LARGE = [
    *[*YOLOV9, "auxiliary.link3", "auxiliary.link4", "auxiliary.link5", "auxiliary.stem"],
    *["auxiliary.stage2.down", "auxiliary.stage2.mix", "auxiliary.stage3.down", "-"],
    *["auxiliary.stage3.mix", "auxiliary.stage4.down", "-", "auxiliary.stage4.mix"],
    *["auxiliary.stage5.down", "-", "auxiliary.stage5.mix", "head.auxiliary"],
]


def place(ours: str, layers: list[str]) -> tuple[str, str, list[str]]:
    """Number of the layer, our name of it, and the path inside."""
    number = next(i for i, layer in enumerate(layers) if ours.startswith(f"{layer}."))
    return str(number), layers[number], ours.removeprefix(f"{layers[number]}.").split(".")


def ultralytics_name(ours: str, layers: list[str]) -> str:
    number, layer, path = place(ours, layers)
    if layer == "head":
        branch, tower, level, index, *rest = path
        kind = {"boxes": "cv2", "classes": "cv3"}[tower]
        if layers is YOLO26 and tower == "classes":
            index = "2" if index == "4" else f"{int(index) // 2}.{int(index) % 2}"
        path = [("one2one_" if branch == ONE_TO_ONE else "") + kind, level, index, *rest]
    words = {"enter": "cv1", "skip": "cv2", "chain": "m", "conv1": "cv1", "conv2": "cv2"}
    words |= {"attention": "attn", "project": "proj", "position": "pe", "feed": "ffn", "norm": "bn"}
    theirs = []
    for part in path:
        merge = "cv3" if "m" in theirs else "cv2"
        theirs.append(merge if part == "merge" else words.get(part, part))
    return ".".join(["model", number, *theirs])


def yolov9_name(ours: str, layers: list[str]) -> str:
    number, layer, path = place(ours, layers)
    path = ["bn" if part == "norm" else part for part in path]
    if layer.startswith("head"):
        tower, level, *rest = path
        return ".".join(
            [
                number,
                "heads",
                level,
                {"boxes": "anchor_conv", "classes": "class_conv"}[tower],
                *rest,
            ]
        )
    if "link" in layer:
        return ".".join([number, "conv", *path])
    if path[0] in ("enter", "merge", "step1", "step2"):
        last = "conv5" if layer.endswith(("pool5", "lateral5")) else "conv4"
        outer = {"enter": "conv1", "step1": "conv2", "step2": "conv3", "merge": last}
        inner = {"enter": "conv1", "skip": "conv2", "merge": "conv3", "chain": "bottleneck"}
        inner |= {"wide": "conv1", "narrow": "conv2"}
        path = [outer[path[0]], *(inner.get(part, part) for part in path[1:])]
    elif path[0] == "pool":
        path = ["conv2", *path[1:]]
    return ".".join([number, *path])


def yolox_name(ours: str, separable: bool) -> str:
    room, part, *path = ours.split(".")
    neck = {"lateral5": "lateral_conv0", "mix_down4": "C3_p4", "lateral4": "reduce_conv1"}
    neck |= {"mix_down3": "C3_p3", "down3": "bu_conv2", "mix_up4": "C3_n3", "down4": "bu_conv1"}
    neck |= {"mix_up5": "C3_n4"}
    if room == "head":
        kind, level, *rest = path
        index = {"boxes": "reg", "classes": "cls"}.get(kind)
        if index and rest[0] == "2":
            start, rest = f"head.{index}_preds.{level}", rest[1:]
        elif index:
            start, rest = f"head.{index}_convs.{level}.{rest[0]}", rest[1:]
        else:
            start = f"head.{'stems' if kind == 'stems' else 'obj_preds'}.{level}"
    elif room == "neck":
        start, rest = f"backbone.{neck[part]}", path
    elif part == "stem":
        start, rest = "backbone.backbone.stem", path
    else:
        order = {"down": "0", "pool": "1", "mix": "2" if part == "stage5" else "1"}
        start, rest = f"backbone.backbone.dark{part[-1]}.{order[path[0]]}", path[1:]
    pool = part == "stage5" and path[0] == "pool"
    words = {"enter": "conv1", "skip": "conv2", "merge": "conv2" if pool else "conv3"}
    words |= {"chain": "m", "norm": "bn"}
    theirs: list[str] = []
    for word in rest:  # depthwise and pointwise convolutions stand in a row of two
        numbered = separable and word in ("0", "1") and (not theirs or theirs[-1] != "m")
        theirs.append({"0": "dconv", "1": "pconv"}[word] if numbered else words.get(word, word))
    return ".".join([start, *theirs])


def renamed(detector: Detector) -> State:
    """The state of a detector as the other project would write it."""
    return renamed_state(detector.name, detector.state_dict())


def renamed_state(name: str, state: State) -> State:
    if name.startswith("yolox"):
        return {yolox_name(key, name == "yolox_nano"): value for key, value in state.items()}
    if name.startswith("yolov9"):
        layers = YOLOV9_SMALL if name[-1] in "ts" else YOLOV9_LARGE
        theirs = {yolov9_name(key, layers): value for key, value in state.items()}
        if name == "yolov9c":  # its downsampling has two convolutions
            for number in (3, 5, 7, 16, 19, 29, 32, 35):
                for key in [k for k in theirs if k.startswith(f"{number}.conv.")]:
                    theirs[key.replace(".conv.", ".conv1.", 1)] = theirs.pop(key)
        return theirs
    layers = YOLOV8 if name.startswith("yolov8") else YOLO26
    return {ultralytics_name(key, layers): value for key, value in state.items()}


class Box(torch.nn.Module):
    """A module without anything, to hang others into."""


def pickled_model(state: State, names: Any, kind: str = "DetectionModel") -> torch.nn.Module:
    """Nested modules with this state; their class lives in a package named ultralytics."""
    home = sys.modules.get("ultralytics.nn.tasks", types.ModuleType("ultralytics.nn.tasks"))
    made = getattr(home, kind, type(kind, (Box,), {"__module__": home.__name__}))
    setattr(home, kind, made)
    sys.modules.update(dict.fromkeys(("ultralytics", "ultralytics.nn", home.__name__), home))
    model = made()
    for key, value in state.items():
        *path, last = key.split(".")
        module = model
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, made())
            module = module.get_submodule(part)
        module.register_buffer(last, value)
    model.names = names
    return model


def save(path: Path, **entries: Any) -> Path:
    """torch.save, after which the package is gone again."""
    torch.save(entries, path)
    for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.tasks"):
        sys.modules.pop(name, None)
    return path
