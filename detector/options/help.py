"""The help pages on the terminal, made from the catalogue.

Nothing here knows an option by name, and nothing slow is imported: ``det --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Mapping

from .catalogue import COMMANDS, GROUPS, Command
from .fields import Option

HEADINGS = ("Run", "Data", "Model", "Precision", "Optimizer", "Loss", "Augmentation", "Detections",
            "Output", "Terminal")  # fmt: skip
"""Groups of options, in order."""
NARROW, WIDE, LEFT = 60, 110, 22
"""Characters: limits of the width of a page, and the column of names."""


def by_group(options: Mapping[str, Option]) -> dict[str, list[Option]]:
    """The options under their headings, in the order of HEADINGS."""
    groups = sorted({option.group for option in options.values()}, key=HEADINGS.index)
    return {name: [o for o in options.values() if o.group == name] for name in groups}


def value_kind(option: Option) -> str:
    """What an option takes, short: ``INT>=1``, ``0..1``, ``auto|True|False``."""
    if option.kinds == (bool,):
        return "True|False"
    if option.choices:
        return "|".join(map(str, option.choices))
    if tuple in option.kinds:
        return "INT|HEIGHT,WIDTH" if option.item is int else "INT|NAMES"
    kind = {int: "INT", float: "NUMBER", str: "TEXT"}[option.kinds[-1]]
    if bool in option.kinds:
        return f"True|False|{kind}"
    if option.low is None and option.high is None:
        return kind
    return f"{kind}>={option.low:g}" if option.high is None else f"{option.low:g}..{option.high:g}"


def page(path: tuple[str, ...]) -> str:
    """The help of a command, of a group of commands, or with () of det itself."""
    command = next((command for command in COMMANDS if command.path == path), None)
    below = [other for other in COMMANDS if other.path[: len(path)] == path and other.path != path]
    takes = [" COMMAND"] * (bool(below) and command is None) + [" [option=value ...]"]
    lines = [_bold("Usage: " + " ".join(("det", *path)) + "".join(takes)), ""]
    about = "A YOLO-style object detection trainer." if not path else GROUPS.get(path[0], "")
    if command is not None and command.name not in GROUPS:
        about = command.summary
    lines += [about, f"Example: {(command or below[0]).example}"]
    lines += _commands(path, below)
    if command is not None:
        for heading, members in by_group(command.options).items():
            lines += ["", _bold(heading), *_columns([_row(option) for option in members])]
    if not path:
        lines += [
            "",
            "det COMMAND --help lists the options of a command.",
            "epochs=50 and --epochs 50 mean the same; so do amp=False and --no-amp.",
        ]
    return "\n".join(lines)


def _commands(path: tuple[str, ...], below: list[Command]) -> list[str]:
    """The next words after ``path``, each with what it does."""
    rows = {}
    for command in below:
        word = command.path[len(path)]
        rows[word] = GROUPS.get(word, command.summary) if not path else command.summary
    return ["", _bold("Commands"), *_columns(list(rows.items()))] if rows else []


def _row(option: Option) -> tuple[str, str]:
    default = "" if option.default is None else f" Default: {option.default}."
    kind = "" if option.group == "Terminal" else f" {value_kind(option)}"
    return f"--{option.name.replace('_', '-')}{kind}", option.doc + default


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    """Names to the left, their texts wrapped to the right; a long name has a line of its own."""
    width = min(max(_width(), NARROW), WIDE)
    lines = []
    for name, text in rows:
        start = f"  {name:<{LEFT}}  "
        if len(name) > LEFT:
            lines.append(f"  {name}")
            start = " " * (LEFT + 4)
        lines += textwrap.wrap(
            text, width, initial_indent=start, subsequent_indent=" " * (LEFT + 4)
        )
    return lines


def _width() -> int:
    try:
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(sys.stdout.fileno()).columns)
    except (OSError, ValueError):
        return 80


def _bold(text: str) -> str:
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR")
    return text if plain else f"\x1b[1m{text}\x1b[0m"
