"""The base classes of the errors that det raises on purpose."""

from __future__ import annotations

from .text import excerpt, one_line


class DetError(Exception):
    """An error with a message for the user: one line that says what is wrong and how to fix it.

    exit_code: what the process ends with.  silent: True where another process prints the reason.
    """

    exit_code = 1
    silent = False

    def __str__(self) -> str:
        return excerpt(one_line(super().__str__()))


class InputError(DetError, ValueError):
    """What the user gave (a command, an option, a file) cannot be used as it is."""

    exit_code = 2
