"""A file of options that Ultralytics wrote (``args.yaml``), read with ``cfg=``.

Such a file lists every option of every mode.  A value that is their default was not chosen by
anybody and is left to det, what has no effect in det is listed once, and what det cannot do is
named in one error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import UsageError
from .fields import Option
from .foreign import foreign, translate

DEFAULTS: dict[str, Any] = {
    "epochs": 100, "patience": 100, "batch": 16, "imgsz": 640, "save": True, "save_period": -1,
    "cache": False, "workers": 8, "exist_ok": False, "pretrained": True, "cls_remap": True,
    "optimizer": "auto", "verbose": True, "seed": 0, "deterministic": True, "single_cls": False,
    "rect": False, "cos_lr": False, "close_mosaic": 10, "resume": False, "amp": True,
    "fraction": 1.0, "profile": False, "multi_scale": 0.0, "compile": False, "val": True,
    "plots": True, "split": "val", "dis": 6.0, "overlap_mask": True, "mask_ratio": 4,
    "dropout": 0.0, "iou": 0.7, "max_det": 300, "save_json": False, "half": False, "dnn": False,
    "vid_stride": 1, "stream_buffer": False, "visualize": False, "augment": False,
    "agnostic_nms": False, "retina_masks": False, "show": False, "save_frames": False,
    "save_txt": False, "save_conf": False, "save_crop": False, "show_labels": True,
    "show_conf": True, "show_boxes": True, "format": "torchscript", "keras": False,
    "optimize": False, "int8": False, "dynamic": False, "simplify": True, "nms": False,
    "lr0": 0.01, "lrf": 0.01, "momentum": 0.937, "weight_decay": 0.0005, "warmup_epochs": 3.0,
    "warmup_momentum": 0.8, "warmup_bias_lr": 0.1, "box": 7.5, "cls": 0.5, "dfl": 1.5,
    "cls_pw": 0.0, "pose": 12.0, "kobj": 1.0, "rle": 1.0, "angle": 1.0, "nbs": 64,
    "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "degrees": 0.0, "translate": 0.1, "scale": 0.5,
    "shear": 0.0, "perspective": 0.0, "flipud": 0.0, "fliplr": 0.5, "bgr": 0.0, "mosaic": 1.0,
    "mixup": 0.0, "cutmix": 0.0, "copy_paste": 0.0, "copy_paste_mode": "flip",
    "auto_augment": "randaugment", "erasing": 0.4, "crop_fraction": 1.0, "tracker": "botsort.yaml",
    "label_smoothing": 0.0, "save_hybrid": False, "conf": 0.25,
}  # fmt: skip
"""Their documented defaults, those of some older versions among them."""


def is_theirs(content: Mapping[Any, Any]) -> bool:
    """Whether a file of options is one of Ultralytics: det has no option ``task`` or ``mode``."""
    return "task" in content and "mode" in content


def read_theirs(
    command: str, content: Mapping[Any, Any], own: Mapping[str, Option], everywhere: frozenset[str]
) -> tuple[dict[str, Any], list[str]]:
    """The values that somebody chose, in det's options, and notes.

    own: det's options of the command.  everywhere: those of all commands.  Raises UsageError that
    names everything that det cannot do.
    """
    chosen: dict[str, Any] = {}
    ignored: list[str] = ["save_dir"] if "save_dir" in content else []
    faults: list[str] = []
    for name, value in content.items():
        if name in ("mode", "save_dir") or value is None or DEFAULTS.get(name) == value:
            continue
        row = foreign(name, command)
        if name not in own and row is None and (name in everywhere or name in DEFAULTS):
            ignored.append(name)
            continue
        try:
            words, idle = translate(command, {name: value}, own)
        except UsageError as error:
            faults.append(str(error))
            continue
        if idle or (row is not None and not words and value not in row.silent):
            ignored.append(name)
        chosen |= words
    if faults:
        raise UsageError("; ".join(faults))
    notes = ["values that are the defaults of Ultralytics are left to det"]
    if ignored:
        notes.append(f"without effect in det {command}: {', '.join(ignored)}")
    return chosen, notes
