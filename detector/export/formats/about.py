"""What an exported file says about itself: enough to use it without the checkpoint.

Every format can hold pairs of texts.  ``About`` is written as such pairs, each value as JSON, and
det reads all of them back.  Beside them stand the pairs that other readers of the field look for
(``task``, ``imgsz``, ``end2end``), in Python's notation, as ``names`` are too.  No path and no host
name is stored.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ....weights.checkpoint import MAX_SIDE, CheckpointError, Meta
from ...models.predictions import ONE_TO_MANY, ONE_TO_ONE
from ...options.formats import DYNAMIC, FORMATS, FULL, WEIGHTS, ExportError

SCHEMA = 3
"""2: ``license`` was ``licence``.  1: also, ``written_on`` was ``device``, and without checksum.
``names`` may be a list in JSON in all of them."""
OLD_NAMES = {"licence": "license", "device": "written_on"}
MARK = "det_schema"
"""The pair that says: this was written by det."""
UNSEALED = "unsealed".ljust(64, ".")
"""Stands for the checksum until the file is complete (``checksum.py``)."""


@dataclass(frozen=True)
class About:
    """Facts of one file.

    image_size: (height, width), fixed or, where ``dynamic``, the usual one; then sides may be
    multiples of ``stride`` from ``smallest_side`` on.  batch: images per call where fixed.
    input: ``float32`` (0..1) or ``uint8`` (0..255), RGB [B,3,H,W], or gray [B,1,H,W] where
    ``channels`` is 1.  letterbox, pad: where an image lies in the input (center, top-left), and the
    gray around it.  output: ``detections``,
    ``raw`` or ``output0`` (raw in one tensor).  head: the branch it reads; nms: NMS is inside.
    written_on: kind of device; a file in fp16 for a GPU runs there only.  checkpoint: Meta of what
    was exported.  checksum: SHA-256 of the file.
    """

    format: str
    precision: str
    model: str
    names: tuple[str, ...]
    image_size: tuple[int, int]
    batch: int
    dynamic: bool
    stride: int
    smallest_side: int
    input: str
    letterbox: str
    pad: int
    output: str
    head: str
    nms: bool
    max_det: int
    written_on: str
    license: str
    provenance: str
    det_version: str
    checkpoint: dict[str, Any]
    checksum: str = UNSEALED
    det_schema: int = SCHEMA

    @property
    def finished(self) -> bool:
        """Whether the file returns detections, and nothing is left to be chosen."""
        return self.output == "detections"

    @property
    def channels(self) -> int:
        """Of the images: 3 (RGB) or 1 (gray)."""
        return self.meta.channels

    @property
    def num_classes(self) -> int:
        return len(self.names)

    @property
    def meta(self) -> Meta:
        """What the checkpoint said about itself."""
        return Meta.from_dict(self.checkpoint, Path(self.model))

    def texts(self) -> dict[str, str]:
        """Name -> text: every field as JSON, and what other readers look for."""
        return {
            **{name: json.dumps(value) for name, value in asdict(self).items()},
            "task": "detect",
            "imgsz": str(list(self.image_size)),
            "end2end": str(self.finished),
            "names": _as_python(self.names),
        }

    @staticmethod
    def from_texts(texts: Mapping[str, str], path: Path) -> About:
        """Read ``texts`` back.  Raises ExportError where they are not those of an export of det."""
        if MARK not in texts:
            raise ExportError(
                f"{path} was not written by det export: its metadata has no {MARK}; "
                "export it again from the checkpoint"
            )
        schema = _value(texts, MARK, path)
        if schema > SCHEMA:
            raise ExportError(
                f"{path} has export schema {schema}, this version reads up to {SCHEMA}: "
                "update yolodet"
            )
        if schema < SCHEMA:
            texts = {new: texts[old] for old, new in OLD_NAMES.items() if old in texts} | {**texts}
        if schema == 1:
            texts = {"checksum": json.dumps(UNSEALED), **texts}
        values = {name: _value(texts, name, path) for name in FIELDS}
        about = About(**values | {name: tuple(values[name]) for name in ("names", "image_size")})
        try:
            _check_agreement(about)
        except CheckpointError as error:
            raise ExportError(f"{path} is damaged: {error}; export it again") from error
        return about


def _check_agreement(about: About) -> None:
    """Raise CheckpointError where facts of one file contradict each other."""
    if about.meta.class_names != about.names:
        raise CheckpointError("its names are not the class names of its checkpoint")
    if any(side % about.stride or side > MAX_SIDE for side in about.image_size):
        height, width = about.image_size
        raise CheckpointError(
            f"its image_size {height},{width} is not made of multiples of {about.stride} up to "
            f"{MAX_SIDE}"
        )


FIELDS = tuple(f.name for f in fields(About))
"""Names of the pairs that det reads."""
LARGEST = 2**20
"""Above every side, batch and number of detections."""


def _value(texts: Mapping[str, str], name: str, path: Path) -> Any:
    """The value of one pair.  Raises ExportError where it is missing or not what it has to be."""
    try:
        value = _names(texts[name]) if name == "names" else _json(texts[name])
        if _RULES[name](value):
            return value
        fault = f"has the value {texts[name][:60]!r}"
    except KeyError:
        fault = "is missing"
    except (ValueError, RecursionError):
        fault = f"cannot be read: {texts[name][:60]!r}"
    raise ExportError(f"{path} is damaged: its metadata {name} {fault}; export it again")


def _as_python(names: Sequence[str]) -> str:
    """``{0: "clock", 1: "kite"}``: Python's dictionary in ASCII, with double quotes."""
    pairs = (f"{i}: {json.dumps(name, ensure_ascii=False)}" for i, name in enumerate(names))
    return f"{{{', '.join(pairs)}}}".encode("ascii", "backslashreplace").decode()


def _json(text: str) -> Any:
    return json.loads(text, parse_constant=float)


def _names(text: str) -> Any:
    """Class names: Python's dictionary by number, as readers of the field expect it, or a list in
    JSON."""
    if not text.startswith("{"):
        return _json(text)
    try:
        numbered = ast.literal_eval(text)
        return [numbered[number] for number in range(len(numbered))]
    except (SyntaxError, KeyError, TypeError, MemoryError) as error:
        raise ValueError(text[:60]) from error


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _count(value: Any) -> bool:
    return type(value) is int and 1 <= value <= LARGEST


def _one_of(*choices: str) -> Callable[[Any], bool]:
    return lambda value: _text(value) and value in choices


def _many(rule: Callable[[Any], bool], low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and low <= len(value) <= high and all(map(rule, value))
    )


_RULES: dict[str, Callable[[Any], bool]] = {
    "format": lambda value: _text(value) and value in FORMATS,
    "precision": _one_of("fp32", "fp16", FULL, WEIGHTS, DYNAMIC),
    "names": _many(_text, 1, LARGEST),
    "image_size": _many(_count, 2, 2),
    "input": _one_of("float32", "uint8"),
    "letterbox": _one_of("center", "top-left"),
    "pad": lambda value: type(value) is int and 0 <= value <= 255,
    "output": _one_of("detections", "raw", "output0"),
    "head": _one_of(ONE_TO_ONE, ONE_TO_MANY),
    "written_on": _one_of("cpu", "cuda", "mps"),
    "checkpoint": lambda value: isinstance(value, dict),
    "checksum": lambda value: _text(value)
    and (value == UNSEALED or re.fullmatch("[0-9a-f]{64}", value) is not None),
    **dict.fromkeys(("dynamic", "nms"), _truth),
    "batch": lambda value: type(value) is int and 1 <= value <= 4096,
    **dict.fromkeys(("stride", "smallest_side", "max_det", "det_schema"), _count),
    **dict.fromkeys(("model", "license", "provenance", "det_version"), _text),
}
"""Name of a pair -> whether a value is possible."""
