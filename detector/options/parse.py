"""Words -> config: typed, checked for range, and answered with the mend where they are wrong.

One way in for every source of values: the command line gives texts, ``cfg=file.yaml`` and Python
give objects.  Order: defaults, then the cfg file, then the words.  What the user gave is handed
back beside the config, because "auto" may only choose what was not given.  Checks that need the
file system or more than one knob are in ``checks.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from .catalogue import MODEL_COMMANDS, command_of
from .errors import UsageError, _did_you_mean
from .fields import Knob, knobs
from .names import FETCHED, FRESH

ConfigT = TypeVar("ConfigT")

TRUE, FALSE = ("true", "yes", "1"), ("false", "no", "0")

SWITCH_WORDS: dict[str, dict[bool, str | None]] = {
    "cache": {True: "ram", False: "none"},
    "resume": {True: "true", False: None},
    "pretrained": {True: FETCHED, False: FRESH},
    "freeze": {False: None},
}
"""What True and False mean for knobs that are no switches but are typed like one."""

LISTS = ("classes", "freeze", "device", "source", "format", "imgsz")
"""Knobs of several values separated by commas; ``[0, 2]`` is understood too."""

HINTS = {
    "task": "det only detects: leave it out",
    "mode": "say the command first: det train ...",
    "half": "use amp=fp16; a file of half the size is det export half=True",
    "int8": "quantization belongs to det export",
    "end2end": "use nms=False (the default) or nms=True",
    "rect": "training images are square; leave it out",
    "weights": "use model=",
    "img": "use imgsz=",
    "img_size": "use imgsz=",
    "image_size": "use imgsz=",
    "batch_size": "use batch=",
    "lr": "use lr0=",
    "learning_rate": "use lr0=",
    "conf_thres": "use conf=",
    "iou_thres": "use iou=",
    "license": "use accept_license=",
    "hyp": "use cfg=",
    "config": "use cfg=",
}
"""Words of the field that det spells otherwise or does not have."""


def parse(
    config_class: type[ConfigT], words: Mapping[str, object]
) -> tuple[ConfigT, frozenset[str]]:
    """``words`` (texts or objects) as a config, and the names that were given.

    A ``cfg`` word names a YAML file to merge below the words; a value there that is the default
    says nothing, so the output of ``det config`` can be used as it is.  None says: choose for me,
    so it is not given either.  Raises UsageError on anything unknown, ill-typed or out of range.
    """
    known = knobs(config_class)
    words = dict(words)
    file = words.pop("cfg", None)
    values: dict[str, Any] = {}
    if file is not None:
        values = _read_file(config_class, Path(str(file)).expanduser())
    told = {name for name, value in values.items() if value != known[name].default} | words.keys()
    for name, word in words.items():
        values[name] = convert(find_knob(config_class, name), word)
    return config_class(**values), frozenset(n for n in told if values[n] is not None)


def convert(knob: Knob, value: object) -> Any:
    """``value`` as the knob's type, inside its range.  Raises UsageError."""
    try:
        converted = _convert(knob, value)
        knob.check(converted)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return converted


def _convert(knob: Knob, value: object) -> Any:
    if isinstance(value, str):
        value = value.strip()
        if not value:
            raise ValueError(f"{knob.name}= has no value: {knob.wanted}")
        if value.lower() == "none" and "none" not in knob.choices:
            value = None
    if value is None:
        if not knob.optional:
            raise ValueError(f"{knob.name} can not be none: {knob.wanted}")
        return None
    return {bool: _boolean, int: _integer, float: _number, str: _text}[knob.kind](knob, value)


def _wrong(knob: Knob, value: object) -> ValueError:
    return ValueError(f"{knob.name}={value}: {knob.wanted}")


def _boolean(knob: Knob, value: object) -> bool:
    word = str(value).lower()
    if word not in TRUE + FALSE or isinstance(value, float):
        raise _wrong(knob, value)
    return word in TRUE


def _number(knob: Knob, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _wrong(knob, value)
    try:
        number = float(value)
    except ValueError:
        raise _wrong(knob, value) from None
    if not math.isfinite(number):
        raise _wrong(knob, value)
    return number


def _integer(knob: Knob, value: object) -> int:
    number = _number(knob, value)  # "1e2" is a hundred
    if number != int(number):
        raise _wrong(knob, value)
    return int(number)


def _text(knob: Knob, value: object) -> str | None:
    if isinstance(value, (list, tuple)) and knob.name in LISTS:
        value = ",".join(str(item) for item in value)
    if isinstance(value, Path):
        value = str(value)
    switch = _switch(value)
    if switch is not None and knob.name in SWITCH_WORDS:
        if switch not in SWITCH_WORDS[knob.name]:
            raise _wrong(knob, value)
        return SWITCH_WORDS[knob.name][switch]
    if switch is not None and knob.is_switch:
        return "true" if switch else "false"
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise _wrong(knob, value)
    text = str(value)
    if text.startswith("~/"):  # the shell leaves a ~ after = alone
        text = str(Path(text).expanduser())
    if knob.name in LISTS and text.startswith("[") and text.endswith("]"):
        text = ",".join(item.strip(" '\"") for item in text[1:-1].split(","))
    return _choice(knob, text) if knob.choices else text


def _switch(value: object) -> bool | None:
    """True or False where ``value`` is one or spells one, else None (0 and 1 are numbers here)."""
    return {"true": True, "yes": True, "false": False, "no": False}.get(str(value).lower())


def _choice(knob: Knob, text: str) -> str:
    """The allowed word that ``text`` is, whatever its case."""
    for word in knob.choices:
        if word.lower() == text.lower():
            return word
    hint = _did_you_mean(text, knob.choices)
    raise ValueError(f"{knob.name}={text}: expected {knob.expected}{hint}")


def find_knob(config_class: type[Any], name: str) -> Knob:
    """The knob called ``name``, or a UsageError that says where it belongs or what it resembles."""
    known = knobs(config_class)
    if name in known:
        return known[name]
    command = command_of(config_class)
    where = f"det {command.name}" if command else config_class.__name__
    owners = [other.name for other in MODEL_COMMANDS if name in knobs(other.config)]
    if owners:
        home = " and det ".join(owners)
        raise UsageError(f"{where} has no option '{name}': it belongs to det {home}")
    if name in HINTS:
        raise UsageError(f"unknown option '{name}': {HINTS[name]}")
    hint = _did_you_mean(name, known)
    mend = hint.replace("; ", ": ", 1) or f": see {where} --help"
    raise UsageError(f"unknown option '{name}'{mend}")


def _read_file(config_class: type[Any], path: Path) -> dict[str, Any]:
    """The values of a cfg file, converted.  Of a file with sections, the one of this command."""
    if not path.is_file():
        raise UsageError(f"cfg={path}: no such file (looked in {path.parent.absolute()})")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"cfg={path} is not readable YAML: {reason}") from None
    content = {} if content is None else content
    if not isinstance(content, dict):
        found = type(content).__name__
        raise UsageError(f"cfg={path}: expected lines of 'option: value', found a {found}")
    content = _section(config_class, content)
    try:
        return {
            str(name): convert(find_knob(config_class, str(name)), value)
            for name, value in content.items()
        }
    except UsageError as error:
        raise UsageError(f"cfg={path}: {error}") from None


def _section(config_class: type[Any], content: dict[Any, Any]) -> dict[Any, Any]:
    """The part of a cfg file for one command: all of it, or its section where there are any."""
    sections = {command.name for command in MODEL_COMMANDS}
    has_sections = all(isinstance(part, dict) for part in content.values())
    if not content or not has_sections or not content.keys() <= sections:
        return content
    command = command_of(config_class)
    return dict(content.get(command.name if command else "", {}))
