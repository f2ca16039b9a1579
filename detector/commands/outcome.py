"""What a command returns to the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """The result of a command.  result: for programs.  text: for people.  code: exit code."""

    result: dict[str, Any]
    text: str = ""
    code: int = 0
