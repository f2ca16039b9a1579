"""Options of Ultralytics that det does not have under their name: what each one means here.

A value that asks for nothing is accepted without a word, one with a meaning in det becomes det's
option, one without an effect is said once, and anything else is refused with the reason.
docs/from-ultralytics.md shows the table.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import UsageError
from .fields import Option

Words = dict[str, Any]


def _nothing(value: Any) -> Words | None:
    """The option has no meaning in det."""
    return None


@dataclass(frozen=True)
class Foreign:
    """An option of theirs.

    silent: values that ask for nothing.  becomes: value -> det's words, None where it has none.
    idle: said of any other value, which then has no effect.  refused: why any other value is an
    error.  With neither, every other value is accepted without a word: it is for tasks other than
    detection.  commands: where it is understood; () for all.
    """

    name: str
    silent: tuple[Any, ...] = ()
    becomes: Callable[[Any], Words | None] = _nothing
    idle: str = ""
    refused: str = ""
    commands: tuple[str, ...] = ()

    @property
    def option(self) -> Option:
        """For the reader of the command line, which asks whether ``--rect`` alone means True."""
        switch = self.becomes is not _nothing or any(isinstance(v, bool) for v in self.silent)
        kinds: tuple[type, ...] = (bool,) if switch else (str,)
        return Option(self.name, kinds, True, None, "Run", self.idle or self.refused)


def _map(pairs: Mapping[Any, Words]) -> Callable[[Any], Words | None]:
    return lambda value: pairs.get(value if not isinstance(value, list) else tuple(value))


def _to(name: str) -> Callable[[Any], Words | None]:
    return lambda value: {name: value}


def _negated(name: str) -> Callable[[Any], Words | None]:
    return lambda value: {name: not value} if isinstance(value, bool) else None


def _folder(value: Any) -> Words | None:
    """``save_dir=runs/mine`` as the folder above it and its name."""
    parent, _, name = str(value).rstrip("/").replace("\\", "/").rpartition("/")
    absolute = "/" if str(value).startswith("/") else "."
    return {"project": parent or absolute, "name": name}


COMMANDS = ("train", "val", "predict", "track", "export", "bench export", "tune")
"""Those that Ultralytics has too."""

_HALF = _map({True: {"amp": "fp16"}, 16: {"amp": "fp16"}})
_USING = ("val", "predict", "track")
_TTA = "test-time augmentation belongs to det val, det predict and det track; leave it out"
_DRAW = ("predict", "track")
_BENCH = ("bench export",)

ROWS = (
    # what is asked for by other words in det
    Foreign("half", (False, None), _HALF, commands=_USING, refused="expected True or False"),
    Foreign("half", (False, None), refused="write amp=fp16", commands=("train",)),
    Foreign("quantize", (None,), _HALF, commands=_USING, refused="only 16, which is amp=fp16"),
    Foreign("quantize", (None,), _map({16: {"half": True}, 8: {"int8": True}}),
            commands=("export",), refused="16 is half=True, 8 is int8=True"),
    Foreign("quantize", (None,), commands=("train",),
            refused="det quantizes when it exports: det export int8=True"),
    Foreign("end2end", (None,), _negated("nms"), refused="expected True or False"),
    Foreign("save_dir", (None,), _folder, commands=("train", *_USING)),
    Foreign("line_thickness", (None,), _to("line_width"), commands=_DRAW),
    Foreign("boxes", (), _to("show_boxes"), commands=_DRAW),
    Foreign("hide_labels", (), _negated("show_labels"), commands=_DRAW),
    Foreign("hide_conf", (), _negated("show_conf"), commands=_DRAW),
    Foreign("format", (None, ""), _to("formats"), commands=_BENCH),
    *(Foreign(name, (False, None), refused="precisions are compared side by side: formats=onnx,"
              "onnx-fp16,onnx-int8", commands=_BENCH) for name in ("half", "int8", "quantize")),
    # of training
    Foreign("profile", (False,), idle="det measures speed with det bench", commands=("train",)),
    Foreign("bgr", (0,), refused="det trains on RGB; it has no such augmentation"),
    Foreign("perspective", (0,), refused="det has no perspective; use degrees= and shear="),
    Foreign("cutmix", (0,), refused="det has no CutMix; use mixup="),
    Foreign("copy_paste", (0,), refused="it needs masks, and det has boxes only; leave it out"),
    Foreign("copy_paste_mode"),
    Foreign("auto_augment"),
    Foreign("erasing"),
    Foreign("crop_fraction"),
    Foreign("augmentations", (None,), refused="det has the augmentations of det train --help"),
    Foreign("label_smoothing", (0,), refused="det does not smooth labels; leave it out"),
    Foreign("dropout", (0,), idle="detection models have no dropout"),
    Foreign("warmup_momentum", (0.8,), idle="the momentum is not warmed up"),
    Foreign("warmup_bias_lr", (0.1,), idle="biases are warmed up like all weights"),
    Foreign("cls_pw", (0,), refused="use class_weights=balanced: weights by the number of boxes"),
    Foreign("cls_remap", (True, None), idle="rows of the same class name are always transferred"),
    Foreign("distill_model", (None,), refused="det does not distill; leave it out"),
    Foreign("dis"),
    # of the search
    Foreign("iterations", (None,), _to("trials"), commands=("tune",)),
    Foreign("use_ray", (False, None), _map({True: {"engine": "ray"}}), commands=("tune",),
            refused="write engine=ray"),
    # of other tasks
    *(Foreign(name) for name in ("overlap_mask", "mask_ratio", "pose", "kobj", "rle", "angle",
                                 "retina_masks", "save_hybrid", "keras")),
    # of validation and prediction
    Foreign("augment", (False, None), refused=_TTA),
    Foreign("visualize", (False, None), refused="det draws no feature maps; leave it out",
            commands=_DRAW),
    Foreign("visualize", (False, None), idle="plots=True draws the true boxes beside those found"),
    Foreign("embed", (None,), refused="det returns boxes, not features; leave it out"),
    Foreign("dnn", (False, None), idle="det runs ONNX files with ONNX Runtime"),
    Foreign("stream_buffer", (False, None),
            idle="det reads every frame, one after the other", commands=_DRAW),
    Foreign("compile", (False, None), idle="only det train compiles", commands=(*_USING, "export")),
    Foreign("fraction", (1,), refused="it belongs to det train; make a smaller data set",
            commands=("val",)),
    Foreign("save_conf", idle="the label files of det val always have the score",
            silent=(True, False), commands=("val",)),
    # of export
    Foreign("simplify", (True, None), idle="det always simplifies the graph", commands=("export",)),
    Foreign("optimize", (False, None), idle="it was for PyTorch Mobile", commands=("export",)),
    Foreign("workspace", (None,), idle="TensorRT takes the memory that it needs",
            commands=("export",)),
    Foreign("name", (None,), refused="use output=", commands=("export",)),
    Foreign("exist_ok", (False,), idle="an export of the same checkpoint is replaced",
            commands=("export",)),
)  # fmt: skip
"""All of them.  The first row that fits the command counts."""

LEFT_OUT = {
    **dict.fromkeys(("nms", "channels_last", "project", "conf", "compile", "opset"), (None,)),
    "device": ("",),
}
"""Values of options that both have, which say in theirs: as usual."""

FORMATS = {"engine": "tensorrt", "trt": "tensorrt", "litert": "tflite"}
"""Their name of a format -> ours."""
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def foreign(name: str, command: str) -> Foreign | None:
    """The row of an option in a command of det; None for what is not theirs."""
    fitting = (row for row in ROWS if row.name == name and command in COMMANDS)
    same = (command, "train") if command == "tune" else (command,)
    return next((row for row in fitting if {*same} & {*(row.commands or same)}), None)


def plain(value: Any) -> Any:
    """A text as the object that it spells: ``0.0``, ``False``, ``none``, ``[0, 1]``."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def translate(command: str, words: Mapping[str, Any], own: Mapping[str, Option]) -> tuple[
    Words, dict[str, str]
]:  # fmt: skip
    """``words`` in det's options, and why some of them have no effect, by name.

    command: ``train``.  own: det's options of the command.  Raises UsageError for what det cannot
    do, and where two words contradict each other.
    """
    ours: Words = {}
    idle: dict[str, str] = {}
    for name, value in words.items():
        known = plain(value)
        row = None if name in own or name == "cfg" else foreign(name, command)
        if name in ("task", "mode"):
            _check_kind(name, known, command)
        elif row is not None:
            _add(ours, words, name, known, _meaning(row, known, value, idle))
        elif not (name in LEFT_OUT and known in LEFT_OUT[name] and name in own):
            ours[name] = _own(name, known, value)
    return ours, idle


def _check_kind(name: str, value: Any, command: str) -> None:
    if name == "task" and value not in ("detect", None):
        raise UsageError(f"task={value}: det only detects objects; leave it out")
    if name == "mode" and value not in (command.split()[-1], None):
        raise UsageError(f"mode={value} contradicts det {command}: leave it out")


def _own(name: str, known: Any, value: Any) -> Any:
    """A value of an option that det has, in det's terms."""
    if name == "compile" and known in COMPILE_MODES:
        return True
    if name == "format" and isinstance(known, str):
        return ",".join(FORMATS.get(part.strip().lower(), part) for part in known.split(","))
    if name == "batch" and known == -1:
        return "auto"
    return value


def _meaning(row: Foreign, known: Any, typed: Any, idle: dict[str, str]) -> Words:
    if any(known is value or (value is not None and known == value) for value in row.silent):
        return {}
    if isinstance(known, float | int | bool | str | tuple | list) or known is None:
        words = row.becomes(known)
        if words is not None:
            return words
    if row.refused:
        raise UsageError(f"{row.name}={typed}: {row.refused}")
    if row.idle:
        idle[row.name] = row.idle
    return {}


def _add(ours: Words, words: Mapping[str, Any], name: str, known: Any, meaning: Words) -> None:
    for ours_name, value in meaning.items():
        other = words.get(ours_name)
        if ours_name in words and ours_name != "project" and plain(other) != value:
            raise UsageError(
                f"{name}={known} is {ours_name}={value} in det, and {ours_name}={other} is given "
                "too: leave one of them out"
            )
        ours[ours_name] = value
