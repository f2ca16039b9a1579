"""Words -> config: typed, checked for range, and answered with the fix where they are wrong.

All values come in here: the command line gives texts, ``cfg=options.yaml`` and Python give objects.
Order: defaults, then the cfg file, then the words.  What the user gave is returned beside the
config, because "auto" may only choose what was not given.  Checks that need the file system or
more than one option are in ``run/check.py`` and in the commands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from .catalog import MODEL_COMMANDS, command_of
from .errors import UsageError, did_you_mean
from .fields import Option, options_of, without_of
from .foreign import translate
from .foreign_file import is_theirs, read_theirs
from .spans import collected

ConfigT = TypeVar("ConfigT")

TRUE, FALSE = ("true", "yes", "1"), ("false", "no", "0")

SWITCH_WORDS: dict[str, dict[bool, str | float | None]] = {
    "cache": {True: "ram", False: "none"},
    "resume": {False: None},
    "freeze": {False: None},
    "multi_scale": {True: 0.5, False: 0.0},
}
"""Options for which True or False stands for another value."""

LISTS = ("classes", "device", "source", "format", "log")
"""Texts of several values separated by commas; ``[0, 2]`` is understood too."""

TIME = re.compile(r"(\d+\.?\d*|\.\d+) *(h|m|min)")
"""``2h`` and ``30m`` as hours."""

SHOWN = 100
"""Characters of a wrong value that a message shows."""

HINTS = {
    "int8": "quantization is an option of det export",
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
    "cache_images": "use cache=",
    "evolve": "write det tune",
    "include": "use format=",
    "config": "use cfg=",
}
"""Options of other trainers that det does not have or names differently."""


def parse(
    config_class: type[ConfigT],
    words: Mapping[str, object],
    notes: list[str] | None = None,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[ConfigT, frozenset[str]]:
    """``words`` (texts or objects) as a config, and the names that were given.

    A ``cfg`` word names a YAML file whose values count where no word is given.  A value there that
    equals the default does not count as given, so the output of ``det config`` can be used as it
    is.  Neither does None, which means: choose for me.  notes: gets a line on everything that was
    given and has no effect.  defaults: of the project (project_file.py), converted; they count
    where neither a word nor the cfg file says anything.  Raises UsageError on anything unknown,
    ill-typed or out of range.
    """
    known = options_of(config_class)
    words = collected(words) if "ranges" in known else dict(words)
    file = words.pop("cfg", None)
    command = command_of(config_class)
    if command is not None:
        words, idle = translate(command.name, words, known)
        _note(notes, [f"{name}= has no effect: {why}" for name, why in idle.items()])
    values: dict[str, Any] = dict(defaults)
    if file is not None:
        values |= _read_file(config_class, Path(str(file)).expanduser(), notes)
    named = {name for name, value in values.items() if value != known[name].default} | words.keys()
    for name, word in words.items():
        if not _is_idle(config_class, name, word):
            values[name] = convert(find_option(config_class, name), word)
    named &= values.keys()
    return config_class(**values), frozenset(n for n in named if values[n] is not None)


def _note(notes: list[str] | None, lines: list[str]) -> None:
    if notes is not None:
        notes += lines


def convert(option: Option, value: object) -> Any:
    """``value`` as the option's type, inside its range.  Raises UsageError."""
    try:
        converted = _convert(option, value)
        option.check(converted)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return converted


def _convert(option: Option, value: object) -> Any:
    if isinstance(value, str):
        value = value.strip()
        if "\0" in value:
            raise ValueError(f"{option.name}={value}: a NUL character cannot be part of it")
        if not value:
            raise ValueError(f"{option.name}= has no value: {option.wanted}")
        if value.lower() == "none" and "none" not in option.choices:
            value = None
    switch = _switch(value)
    if option.name == "val" and str(value) in ("0", "1"):
        switch = str(value) == "1"
    if switch in (meanings := SWITCH_WORDS.get(option.name, {})):
        value = meanings[switch]
    elif switch is not None and bool in option.kinds and len(option.kinds) > 1:
        return switch
    elif switch is not None and tuple in option.kinds:
        raise _wrong(option, value)
    if value is None:
        if not option.optional:
            raise ValueError(f"{option.name} cannot be none: {option.wanted}")
        return None
    if tuple in option.kinds:
        return _several(option, value)
    if option.or_share:
        return _share(option, value)
    if option.kinds == (str, float) and str(value).lower() == "auto":
        return "auto"
    readers = {bool: _boolean, int: _integer, float: _number, str: _text}
    return readers[option.kinds[-1]](option, value)


def _wrong(option: Option, value: object) -> ValueError:
    text = show(value)
    if len(text) > SHOWN:
        text = f"{text[:SHOWN]}... ({len(text):,} characters)"
    return ValueError(f"{option.name}={text}: {option.wanted}")


def _boolean(option: Option, value: object) -> bool:
    word = str(value).lower()
    if word not in TRUE + FALSE or isinstance(value, float):
        raise _wrong(option, value)
    return word in TRUE


def _number(option: Option, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _wrong(option, value)
    if option.name == "time" and (match := TIME.fullmatch(str(value).lower())):
        return float(match[1]) / (1 if match[2] == "h" else 60)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise _wrong(option, value) from None
    if not math.isfinite(number):
        raise _wrong(option, value)
    return number


def _integer(option: Option, value: object) -> int:
    number = _number(option, value)  # "1e2" is a hundred
    if number != int(number):
        raise _wrong(option, value)
    return int(number)


def _share(option: Option, value: object) -> int | float | str:
    """A whole number, a share between 0 and 1, or ``auto``."""
    if str(value).lower() == "auto":
        return "auto"
    number = _number(option, value)
    return number if 0 < number < 1 else _integer(option, value)


def _several(option: Option, value: object) -> Any:
    """A number, or a tuple of numbers or names: ``640``, ``480,640``, ``backbone.stem,neck``."""
    parts = list(value) if isinstance(value, list | tuple) else [value]
    if isinstance(value, str):
        separator = "[,x]" if option.item is int else ","
        parts = [part.strip(" '\"") for part in re.split(separator, value.strip("[]"))]
    if any(isinstance(part, bool) for part in parts):
        raise _wrong(option, value)
    listed = isinstance(value, list | tuple) or str(value).startswith("[")
    if len(parts) == 1 and str(parts[0]).isdigit() and (option.item is int or not listed):
        return int(str(parts[0]))
    try:
        items = tuple(option.item(part) for part in parts)
    except (TypeError, ValueError):
        raise _wrong(option, value) from None
    square = option.item is int and len(items) == 2 and items[0] == items[1]
    return items[0] if square else items


def show(value: Any) -> str:
    """A value as it is typed: ``480,640``, ``True``, ``none``."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)


def _text(option: Option, value: object) -> str | bool:
    if isinstance(value, Mapping) and option.name == "names":
        value = _rules(value)
    if isinstance(value, Mapping) and option.name == "class_weights":
        value = ",".join(f"{name}:{weight}" for name, weight in value.items())
    if isinstance(value, (list, tuple)) and option.name in LISTS:
        value = show(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Path)):
        raise _wrong(option, value)
    text = str(value)
    if text.startswith("~/"):  # the shell leaves a ~ after = alone
        text = str(Path(text).expanduser())
    if option.name in LISTS and text.startswith("[") and text.endswith("]"):
        text = ",".join(item.strip(" '\"") for item in text[1:-1].split(","))
    return _choice(option, text) if option.choices else text


def _rules(value: Mapping[Any, Any]) -> str:
    """``{car: vehicle, truck: vehicle}`` as the text of ``names=``.  Raises ValueError."""
    for word in (*value, *value.values()):
        if not isinstance(word, str | int) or "," in str(word) or "->" in str(word):
            raise ValueError(
                f"names: {word!r} cannot be part of a rule: expected OLD: NEW, class names without "
                "a comma (an old class may be named by its number)"
            )
    return ",".join(f"{old}->{new}" for old, new in value.items())


def _switch(value: object) -> bool | None:
    """True or False where ``value`` is one or spells one, else None (0 and 1 are numbers here)."""
    return {"true": True, "yes": True, "false": False, "no": False}.get(str(value).lower())


def _choice(option: Option, text: str) -> str | bool:
    """The allowed value that ``text`` spells, in upper or lower case."""
    for word in option.choices:
        if str(word).lower() == text.lower():
            return word
    if option.or_folder and Path(text).is_dir():
        return text
    hint = did_you_mean(text, map(str, option.choices))
    raise ValueError(f"{option.name}={text}: expected {option.expected}{'; ' * bool(hint)}{hint}")


def _is_idle(config_class: type[Any], name: str, value: object) -> bool:
    """Whether an option that this command does not have is given as it would be without it, as in
    the output of ``det config train``."""
    if name not in without_of(config_class):
        return False
    owner = next(base for base in config_class.__mro__[1:] if name in options_of(base))
    option = options_of(owner)[name]
    try:
        return bool(convert(option, value) == option.default)
    except UsageError:
        return False


def find_option(config_class: type[Any], name: str) -> Option:
    """The option called ``name``.  Raises UsageError that names the right command or word."""
    known = options_of(config_class)
    if name in known:
        return known[name]
    command = command_of(config_class)
    instead = without_of(config_class).get(name)
    where = f"det {command.name}" if command else config_class.__name__
    if instead is not None:
        raise UsageError(f"{where} has no option '{name}': {instead}")
    owners = [other.name for other in MODEL_COMMANDS if name in options_of(other.config)]
    if owners:
        home = " and det ".join(owners)
        raise UsageError(f"{where} has no option '{name}': it belongs to det {home}")
    if name in HINTS:
        raise UsageError(f"unknown option '{name}': {HINTS[name]}")
    fix = did_you_mean(name, known) or f"see {where} --help"
    raise UsageError(f"unknown option '{name}': {fix}")


def _read_file(
    config_class: type[Any], path: Path, notes: list[str] | None = None
) -> dict[str, Any]:
    """The values of a cfg file, converted.  Of a file with sections, the one of this command."""
    content = section_of(config_class, _load(path))
    command, own = command_of(config_class), options_of(config_class)
    try:
        if command is not None and is_theirs(content):
            everywhere = frozenset(n for c in MODEL_COMMANDS for n in options_of(c.config))
            content, lines = read_theirs(command.name, content, own, everywhere)
            _note(notes, [f"cfg={path}: {line}" for line in lines])
        elif command is not None:
            content, idle = translate(command.name, content, own)
            _note(notes, [f"cfg={path}: {n}= has no effect: {why}" for n, why in idle.items()])
        return _convert_all(config_class, content)
    except UsageError as error:
        raise UsageError(f"cfg={path}: {error}") from None


def _convert_all(config_class: type[Any], content: Mapping[Any, Any]) -> dict[str, Any]:
    """Every value of a file; one UsageError names all that are wrong."""
    values, faults = {}, []
    for name, value in content.items():
        try:
            if _is_idle(config_class, str(name), value):
                continue
            values[str(name)] = convert(find_option(config_class, str(name)), value)
        except UsageError as error:
            faults.append(str(error))
    if faults:
        raise UsageError("; ".join(faults))
    return values


def _load(path: Path) -> dict[Any, Any]:
    """The content of a cfg file.  Raises UsageError where it holds no options."""
    if not path.is_file():
        raise UsageError(f"cfg={path}: no such file (looked in {path.parent.absolute()})")
    from ...files.yaml_text import YamlError, read_yaml  # only now: most commands read no file

    try:
        content = read_yaml(path)
    except YamlError as error:
        raise UsageError(f"cfg={error}") from None
    content = {} if content is None else content
    if not isinstance(content, dict):
        found = type(content).__name__
        raise UsageError(f"cfg={path}: expected lines of 'option: value', found a {found}")
    if is_data_description(content):
        raise UsageError(f"cfg={path} describes a data set: write data={path}")
    return content


def is_data_description(content: Mapping[Any, Any]) -> bool:
    """Whether the content of a YAML file is a data set's: it names classes or a split's images."""
    splits = isinstance(content.get("train"), str | list) or isinstance(content.get("val"), str)
    return _lists_classes(content.get("names")) or (splits and "epochs" not in content)


def _lists_classes(names: object) -> bool:
    """Whether ``names:`` lists the classes of a data set; as an option it renames them."""
    return isinstance(names, list) or (
        isinstance(names, dict) and all(str(key).isdecimal() for key in names)
    )


def section_of(config_class: type[Any], content: dict[Any, Any]) -> dict[Any, Any]:
    """The part of a cfg file for one command: its section where there are any, else all of it."""
    sections = {command.name for command in MODEL_COMMANDS}
    has_sections = all(isinstance(part, dict) for part in content.values())
    if not content or not has_sections or not content.keys() <= sections:
        return content
    command = command_of(config_class)
    return dict(content.get(command.name if command else "", {}))
