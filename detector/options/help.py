"""The help on the terminal: Typer lays out what the catalog says.

Only help imports Typer, so that no other command waits for it.  Nothing here knows an option by
name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Optional

import typer

from .catalog import COMMANDS, GROUPS, Command
from .fields import Option, by_group, options_of, value_kind
from .shared import FlagsConfig

ABOUT = f"A YOLO-style object detection trainer.\n\nExample: {COMMANDS[0].example}"
EPILOG = (
    "det COMMAND --help lists the options of a command. epochs=50 and --epochs 50 mean the same; "
    "so do amp=False and --no-amp."
)


def print_help(path: tuple[str, ...]) -> None:
    """Print the help of a command, of a group of commands, or with () of det itself."""
    command = typer.main.get_command(_app(path))
    command.main(args=[*path, "--help"], prog_name="det", standalone_mode=False)


def _app(path: tuple[str, ...]) -> typer.Typer:
    """Typer's commands, made from the catalog; only that of ``path`` gets its options."""
    app = _group(ABOUT, EPILOG)
    groups = {name: _group(summary) for name, summary in GROUPS.items()}
    for command in COMMANDS:
        home = groups.get(command.path[0], app)
        if command.name in groups:  # a group that is a command too, such as det config
            home.callback(invoke_without_command=True)(_function(command, path))
        else:
            home.command(command.path[-1])(_function(command, path))
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app


def _group(summary: str, epilog: str | None = None) -> typer.Typer:
    settings = {"help_option_names": ["-h", "--help"]}
    return typer.Typer(help=summary, epilog=epilog, context_settings=settings, add_completion=False)


def _function(command: Command, shown: tuple[str, ...]) -> Callable[..., None]:
    """A function with the signature that Typer makes the help of a command from; without options
    unless it is ``shown``."""
    groups = by_group(command.options) if command.path == shown else {}
    options = [option for group in groups.values() for option in group]
    flags = options_of(FlagsConfig)

    def nothing(**_: Any) -> None:
        pass

    parameters = [_parameter(option, is_flag=option.name in flags) for option in options]
    nothing.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    nothing.__annotations__ = {}
    nothing.__doc__ = f"{command.summary}\n\nExample: {command.example}"
    return nothing


def _parameter(option: Option, *, is_flag: bool) -> inspect.Parameter:
    default = "" if is_flag or option.default is None else f" Default: {option.default}."
    shown = typer.Option(
        False if is_flag else None,
        "--" + option.name.replace("_", "-"),
        help=option.doc + default,
        metavar=None if is_flag else value_kind(option),
        rich_help_panel=option.group,
        show_default=False,
    )
    kind = bool if is_flag else Optional[str]  # noqa: UP045 (typer reads it at run time)
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(option.name, keyword, default=shown, annotation=kind)
