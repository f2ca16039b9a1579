"""Metadata as Ultralytics writes them: pairs in ONNX files, metadata.yaml beside OpenVINO files.

Both ways: ``metadata_of`` for readers that look for them, ``foreign_texts`` for files that they
have written.  Facts: the keys (task, stride, batch, imgsz, names, channels, end2end, args), and one
output ``output0``, either [B,4+C,A] (center, width, height, scores) or finished [B,D,6].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ....files.text import one_line
from ....files.yaml_text import read_yaml
from ....weights.checkpoint import SCHEMA as CHECKPOINT_SCHEMA
from ...models.predictions import ONE_TO_MANY
from ...options.foreign import plain
from ...options.formats import FULL, ExportError
from . import onnx, openvino
from .about import MARK, SCHEMA, UNSEALED, About

METADATA = "metadata.yaml"
ROWS = 6
"""Numbers of a finished detection."""
SHAPES: dict[str, Callable[[Path], list[int]]] = {
    "onnx": onnx.output_shape, "openvino": openvino.output_shape,
}  # fmt: skip
"""Format -> what reads the shape of the first output, 0 for a free side."""


def metadata_of(about: About) -> dict[str, Any]:
    """The content of metadata.yaml."""
    return {
        "description": f"{about.model}, exported by det",
        "author": "det",
        "version": about.det_version,
        "license": about.license,
        "stride": about.stride,
        "task": "detect",
        "batch": about.batch,
        "imgsz": list(about.image_size),
        "names": dict(enumerate(about.names)),
        "channels": about.channels,
        "end2end": about.finished,
        "args": {
            "batch": about.batch,
            "half": about.precision == "fp16",
            "int8": about.precision == FULL,
            "dynamic": about.dynamic,
            "nms": about.nms,
        },
    }


def foreign_texts(name: str, path: Path) -> dict[str, str]:
    """What det's metadata would say of a file of theirs; {} where it is not one of theirs.

    name: of the format.  path: the file.  Raises ExportError for what det cannot run.
    """
    if name not in SHAPES:
        return {}
    told = _told(name, path)
    if not {"names", "stride", "imgsz", "task"} <= told.keys():
        return {}
    if told["task"] != "detect" or told.get("channels", 3) != 3:
        raise ExportError(f"{path}: task={told['task']}: det only detects objects in RGB images")
    if not isinstance(told["names"], Mapping) or {*told["names"]} != {*range(len(told["names"]))}:
        raise ExportError(f"{path} is damaged: its metadata names are not numbered from 0")
    names = [one_line(str(told["names"][number])) for number in range(len(told["names"]))]
    shape = SHAPES[name](path)
    rows = len(shape) == 3 and shape[2] == ROWS
    if not rows and (len(shape) != 3 or shape[1] != 4 + len(names)):
        raise ExportError(
            f"{path}: its output has the shape {shape}; det reads [B,{4 + len(names)},A] and "
            f"[B,D,{ROWS}]"
        )
    values = _values(told, names, rows, shape) | {"format": name, "model": path.stem}
    values["checkpoint"] = _checkpoint(values, told)
    return {key: json.dumps(value) for key, value in values.items()}


def _told(name: str, path: Path) -> dict[str, Any]:
    if name == "onnx":
        return {key: plain(value) for key, value in onnx.read_about(path).items()}
    file = path.with_name(METADATA)
    content = read_yaml(file) if file.is_file() else None
    return {str(key): plain(v) for key, v in content.items()} if isinstance(content, dict) else {}


def _values(
    told: Mapping[str, Any], names: list[str], rows: bool, shape: list[int]
) -> dict[str, Any]:
    args = told.get("args")
    args = args if isinstance(args, Mapping) else {}
    size = told["imgsz"] if isinstance(told["imgsz"], list) else [told["imgsz"]] * 2
    dynamic = args.get("dynamic") is True or shape[0] == 0
    text = str(told.get("license", "unknown"))
    return {
        "precision": "fp16" if args.get("half") else FULL if args.get("int8") else "fp32",
        "names": names,
        "image_size": size,
        "batch": told.get("batch", 1),
        "dynamic": dynamic,
        "stride": told["stride"],
        "smallest_side": told["stride"],
        "input": "float32",
        "letterbox": "center",
        "pad": 114,
        "output": "detections" if rows else "output0",
        "head": ONE_TO_MANY,
        "nms": args.get("nms") is True,
        "max_det": shape[1] if rows and shape[1] else 300,
        "written_on": "cpu",
        "license": "AGPL-3.0" if "AGPL" in text else one_line(text),
        "provenance": f"exported by {one_line(str(told.get('author', 'another program')))}",
        "det_version": "",
        "checksum": UNSEALED,
        MARK: SCHEMA,
    }


def _checkpoint(values: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The Meta of the checkpoint that the file was made of, as far as it is known."""
    sides = [side for side in values["image_size"] if isinstance(side, int)]
    return {
        "schema": CHECKPOINT_SCHEMA,
        "class_names": values["names"],
        "image_size": max(sides, default=0),
        "strides": [8, 16, told["stride"]],
        **{key: values[key] for key in ("model", "precision", "license", "provenance")},
    }
