"""What was typed -> a command and its words: both grammars, mixed freely.

``epochs=50``, ``--epochs 50`` and ``--epochs=50`` are the same; so are ``amp=False`` and
``--no-amp``.  A space around ``=`` and inside brackets is forgiven.  Values stay texts here:
``parse.py`` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .catalog import COMMANDS, Command, command_of
from .errors import UsageError, nearest
from .fields import Option
from .foreign import foreign
from .foreign_commands import as_ours
from .parse import FALSE, TRUE, find_option

ASSIGNMENT = re.compile(r"(?:--)?([A-Za-z][\w-]*)=(.*)", re.DOTALL)
HELP = ("-h", "--help")


@dataclass(frozen=True)
class Call:
    """What was typed.  path: the command words, () for none.  command: None where help was asked
    for.  words: option -> text."""

    path: tuple[str, ...]
    command: Command | None
    words: dict[str, str] = field(default_factory=dict)


def read_words(arguments: Sequence[str]) -> Call:
    """Split what was typed after ``det``.  Raises UsageError where it cannot be understood."""
    tokens = as_ours(_join(arguments), [command.path[0] for command in COMMANDS])
    help_asked = "help" in tokens[:2] or any(token in HELP for token in tokens)
    tokens = [token for token in tokens if token not in (*HELP, *["help"] * help_asked)]
    path, rest = _take_command(tokens)
    command = next((command for command in COMMANDS if command.path == path), None)
    if help_asked or not tokens or (command is None and not rest):
        return Call(path, None)
    if command is None:
        raise _no_command(path, rest)
    return Call(path, command, _Reader(command, rest).read())


def _join(arguments: Sequence[str]) -> list[str]:
    """Undo the shell's splitting of ``a = b``, ``a= b``, ``a =b`` and ``classes=[0, 2]``."""
    joined: list[str] = []
    for token in map(_unquoted, arguments):
        open_bracket = joined and (_is_open(joined[-1]) or _goes_on(joined[-1], token))
        if joined and (token.startswith("=") or _wants_value(joined[-1], token) or open_bracket):
            joined[-1] += token
        else:
            joined.append(token)
    if joined and _is_open(joined[-1]):
        raise UsageError(f"'{joined[-1]}' has no closing bracket")
    return [token[:-1] if token.endswith(",") and "=" in token else token for token in joined]


def _unquoted(token: str) -> str:
    """Without quotation marks that the shell has left, around the word or around its value."""
    name, equals, value = token.partition("=")
    for text, before in ((token, ""), (value, name + equals)):
        if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
            return before + text[1:-1]
    return token


def _goes_on(last: str, token: str) -> bool:
    """Whether ``token`` is a further number of a list, as in ``classes=0, 2``."""
    return "=" in last and last.endswith(",") and token.rstrip(",").isdigit()


def _is_open(token: str) -> bool:
    return "=[" in token and "]" not in token


def _wants_value(last: str, token: str) -> bool:
    return last.endswith("=") and not ASSIGNMENT.fullmatch(token) and not token.startswith("--")


def _take_command(tokens: list[str]) -> tuple[tuple[str, ...], list[str]]:
    """The command words and everything else; options may stand before the command too."""
    start = 0
    while start < len(tokens) and (tokens[start].startswith("-") or "=" in tokens[start]):
        start += 1
    path: tuple[str, ...] = ()
    end = start
    while end < len(tokens) and any(_starts(command, (*path, tokens[end])) for command in COMMANDS):
        path = (*path, tokens[end])
        end += 1
    return path, tokens[:start] + tokens[end:]


def _starts(command: Command, path: tuple[str, ...]) -> bool:
    return command.path[: len(path)] == path


def _no_command(path: tuple[str, ...], rest: list[str]) -> UsageError:
    """Why no command was found: it is missing, or it is unknown."""
    depth = len(path)
    below = [command.path for command in COMMANDS if _starts(command, path)]
    names = {words[depth]: None for words in below if len(words) > depth}
    typed = " ".join(("det", *path))
    word = next((token for token in rest if not token.startswith("-") and "=" not in token), None)
    known = ", ".join(names)
    if word is None:
        return UsageError(f"missing command: write {typed} and one of {known} before '{rest[0]}'")
    close = nearest(word, names)
    fix = f"did you mean '{typed} {close[0]}'?" if close else f"choose from {known}"
    return UsageError(f"unknown command '{typed} {word}': {fix}")


class _Reader:
    """Reads the tokens after a command, left to right."""

    def __init__(self, command: Command, tokens: list[str]) -> None:
        self.command = command
        self.tokens = tokens
        self.words: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        while self.tokens:
            token = self.tokens.pop(0)
            match = ASSIGNMENT.fullmatch(token)
            if match and not (self.command.bare and Path(token).exists()):
                self._put(self._find(match[1]).name, match[2])
            elif token.startswith("--") and len(token) > 2:
                self._option(token[2:])
            else:
                self._bare(token)
        return self.words

    def _find(self, typed: str) -> Option:
        name = typed.replace("-", "_")
        return self._known(name) or find_option(self.command.config, name)

    def _put(self, name: str, value: str) -> None:
        before = self.words.setdefault(name, value)
        if before.lower() != value.lower():
            raise UsageError(f"{name} is given twice: {name}={before} and {name}={value}")

    def _option(self, typed: str) -> None:
        """``--name value``, ``--switch``, ``--switch value`` or ``--no-switch``."""
        name = typed.replace("-", "_")
        if name.startswith("no_") and name not in self.command.options:
            option = self._find(name[3:])
            if not option.is_switch:
                fix = f"{option.name} is not a switch; write {option.example}"
                raise UsageError(f"--{typed}: {fix}")
            self._put(option.name, "false")
            return
        option = self._find(name)
        following = self.tokens[0] if self.tokens else None
        if option.is_switch and not _is_word_of(option, following):
            self._put(option.name, "true")
        elif following is None or self._is_option(following):
            raise UsageError(f"--{typed} needs a value: {option.wanted}")
        else:
            self._put(option.name, self.tokens.pop(0))

    def _is_option(self, token: str) -> bool:
        match = ASSIGNMENT.fullmatch(token)
        return token.startswith("--") or (match is not None and match[1] in self.command.options)

    def _bare(self, word: str) -> None:
        """A word without ``=``: a value that the command takes, or an error with the likely fix."""
        option = self._known(word)
        if option is not None and bool in option.kinds and not Path(word).exists():
            self._put(option.name, "true")
            return
        if option is None or Path(word).exists():
            fitting = [(s, n) for s, n in self.command.bare if word.endswith(s)]
            names = [name for suffix, name in fitting if suffix == fitting[0][0]]
            if names and not word.startswith("-"):
                self._put_bare(next((n for n in names if n not in self.words), names[-1]), word)
                return
        if any(command.path[:-1] == self.command.path for command in COMMANDS):  # a group
            raise _no_command(self.command.path, [word])
        typed = f"det {self.command.name}"
        raise UsageError(f"{typed} does not understand '{word}': {self._fix(word)}")

    def _known(self, word: str) -> Option | None:
        """The option of that name, one of Ultralytics included; None for any other word."""
        name = word.replace("-", "_")
        of = command_of(self.command.config)
        theirs = foreign(name, of.name) if of else None
        return self.command.options.get(name) or (theirs.option if theirs else None)

    def _fix(self, word: str) -> str:
        option = self._known(word)
        if option is not None:
            return f"write {option.example}"
        for suffixes, name in _SUFFIXES:
            if word.lower().endswith(suffixes) and name in self.command.options:
                return f"write {name}={word}"
        return f"write option=value, e.g. {self.command.example}"

    def _put_bare(self, name: str, word: str) -> None:
        """Several words are several sources: the shell has expanded a pattern."""
        if name == "source" and name in self.words:
            self.words[name] += f",{word}"
        else:
            self._put(name, word)


_SUFFIXES = (
    ((".pt", ".safetensors"), "model"),
    ((".yaml", ".yml"), "cfg"),
    ((".jpg", ".jpeg", ".png", ".bmp", ".mp4"), "source"),
)


def _is_word_of(option: Option, token: str | None) -> bool:
    """Whether ``token`` is a value of a switch, rather than whatever comes next."""
    choices = (str(choice).lower() for choice in option.choices)
    return token is not None and token.lower() in (*TRUE, *FALSE, *choices)
