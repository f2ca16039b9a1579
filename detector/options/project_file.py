"""``det.yaml`` in the current folder: defaults of a project, for the command line.

Its lines are those of a cfg file: options, or a section per command.  An option that only other
commands have is no error, so that one file serves all of them.  What is typed wins, then what
``cfg=`` says, then this file; what a command takes from it is printed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .catalog import MODEL_COMMANDS
from .errors import UsageError
from .fields import options_of
from .parse import convert, find_option, is_data_description, section_of, show

PROJECT_FILE = Path("det.yaml")


def project_defaults(config_class: type[Any]) -> dict[str, Any]:
    """The options of a command that det.yaml sets, converted; {} without such a file, and where
    det.yaml describes a data set.  Raises UsageError where a line is wrong."""
    if not os.path.lexists(PROJECT_FILE):
        return {}
    if not PROJECT_FILE.is_file():  # its defaults must not be missing without a word
        raise UsageError(
            f"{PROJECT_FILE}: is not a file (a link to nothing, a folder, a pipe ...): make it a "
            "file with options, or remove it"
        )
    from ...files.yaml_text import YamlError, read_yaml

    try:
        content = read_yaml(PROJECT_FILE)
    except YamlError as error:
        raise UsageError(str(error)) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        found = type(content).__name__
        raise UsageError(f"{PROJECT_FILE}: expected lines of 'option: value', found a {found}")
    if is_data_description(content):
        return {}
    own = options_of(config_class)
    others = {name for command in MODEL_COMMANDS for name in options_of(command.config)}
    values = {}
    for name, value in section_of(config_class, content).items():
        if name in own or name not in others:
            try:
                values[str(name)] = convert(find_option(config_class, str(name)), value)
            except UsageError as error:
                raise UsageError(f"{PROJECT_FILE}: {error}") from None
    return {name: value for name, value in values.items() if value != own[name].default}


def used_defaults(defaults: Mapping[str, Any], config: Any, typed: Mapping[str, Any]) -> str:
    """A line that says what a command has from det.yaml, "" for nothing."""
    used = [
        f"{name}={show(value)}"
        for name, value in defaults.items()
        if name not in typed and getattr(config, name) == value
    ]
    return f"{PROJECT_FILE}: {', '.join(used)}" if used else ""
