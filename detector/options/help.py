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
    command = typer.main.get_command(_app())
    command.main(args=[*path, "--help"], prog_name="det", standalone_mode=False)


def _app() -> typer.Typer:
    """Typer's commands, made from the catalog."""
    app = _group(ABOUT, EPILOG)
    groups = {name: _group(summary) for name, summary in GROUPS.items()}
    for command in COMMANDS:
        home = groups.get(command.path[0], app)
        if command.name in groups:  # a group that is a command too, such as det config
            home.callback(invoke_without_command=True)(_with_options(command))
        else:
            home.command(command.path[-1])(_with_options(command))
    for name, group in groups.items():
        app.add_typer(group, name=name)
    return app


def _group(summary: str, epilog: str | None = None) -> typer.Typer:
    settings = {"help_option_names": ["-h", "--help"]}
    return typer.Typer(help=summary, epilog=epilog, context_settings=settings, add_completion=False)


def _with_options(command: Command) -> Callable[..., None]:
    """A function with the signature that Typer makes the help of a command from."""
    options = [option for group in by_group(command.options).values() for option in group]
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
