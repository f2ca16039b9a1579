"""Starting a training or an export: the same command as in a terminal, in a session of its own, so
that it goes on when the studio ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from ...files.folders import cache_folder
from ...files.text import one_line
from ..checkpoints.check import named_start
from ..options.fields import by_group, options_of, value_kind
from ..options.parse import parse, show
from ..options.train import TrainConfig
from ..train.check import check_train
from .asked import BadRequest, Outside
from .place import Place

FIXED = ("project", "exist_ok", "resume", "verbose")
"""Options of det train that the form does not show."""
LAST_BYTES = 2000
"""The end of what a command has printed, which says why it ended."""


@dataclass
class Started:
    """A command that this studio has started.  printed: the file with what it prints."""

    words: tuple[str, ...]
    process: subprocess.Popen[bytes]
    printed: Path

    @property
    def failed(self) -> str:
        """The last line that it has printed, where it ended with an error."""
        if self.process.poll() in (None, 0):
            return ""
        lines = tail_of(self.printed, LAST_BYTES)
        return lines[-1] if lines else f"ended with {self.process.returncode}"


def tail_of(printed: Path, most: int) -> list[str]:
    """The last lines that a command has printed, of at most so many bytes, without empty ones."""
    text = printed.read_bytes()[-most:].decode("utf-8", "replace")
    return [one_line(line) for line in text.splitlines() if line.strip()]


def form() -> list[dict[str, object]]:
    """The options of det train under their headings, for the form."""
    shown = {name: one for name, one in options_of(TrainConfig).items() if name not in FIXED}
    return [
        {
            "title": title,
            "options": [
                {"name": o.name, "kind": value_kind(o), "doc": o.doc,
                 "default": "" if o.default is None else show(o.default),
                 "choices": [str(choice) for choice in o.choices]}
                for o in options
            ],
        }
        for title, options in by_group(shown).items()
    ]  # fmt: skip


def words_of(place: Place, options: Mapping[str, object]) -> tuple[str, ...]:
    """The words of a checked ``det train``: data= and model= are names below the opened folder.

    Raises what the command line raises, Outside for a path that leads out, and BadRequest.
    """
    words: dict[str, str] = {}
    for name, value in options.items():
        if name in FIXED or not isinstance(value, str):
            raise BadRequest(f"{name}: cannot be given here")
        path = PurePath(value)
        if path.is_absolute() or ".." in path.parts or value.startswith("~") or "\0" in value:
            raise Outside(f"{name}={value}: expected a name below the opened folder")
        words[name] = value
    for name in ("data", "model"):
        if name in words and (name == "data" or os.path.lexists(place.root / words[name])):
            words[name] = str(place.inside(words[name]))
    words["project"] = str(place.root / "runs")
    config, given = parse(TrainConfig, dict(words))
    check_train(*named_start(config, given))
    return tuple(f"{name}={value}" for name, value in words.items())


def start(place: Place, words: tuple[str, ...]) -> Started:
    """Run ``det train`` with checked words."""
    return launch(place, "train", words)


def launch(place: Place, command: str, words: tuple[str, ...]) -> Started:
    """Run a command of det with checked words."""
    printed = printed_file()
    return Started(words, run(place.root, command, words, printed), printed)


def printed_file() -> Path:
    """A new file for what a command prints."""
    folder = cache_folder() / "studio" / "starts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{os.getpid()}-{os.urandom(4).hex()}.txt"


def run(root: Path, command: str, words: tuple[str, ...], printed: Path) -> subprocess.Popen[bytes]:
    """Start a command of det in a folder and a session of its own."""
    package = str(__package__).partition(".")[0]
    line = [sys.executable, "-m", package, command, *words]
    with printed.open("wb") as sink:
        return subprocess.Popen(
            line, cwd=root, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            start_new_session=True,
        )  # fmt: skip
