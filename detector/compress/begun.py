"""A pruning or a compression in its folder: how it goes on, and how it ends when it is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from ...files.json_text import read_note
from ..options.fields import options_of
from ..options.parse import parse
from ..options.prune import PruneConfig
from ..run.folder import RunError, find_state
from ..run.log import Log
from ..run.owner import owned
from ..run.process import settings_kept
from ..run.signals import Interrupted
from .check import Kind

ConfigT = TypeVar("ConfigT", bound=PruneConfig)


@dataclass(frozen=True)
class Begun(Generic[ConfigT]):
    """Of a kind, in its folder.  given: the options that the user typed when it began."""

    kind: Kind
    config: ConfigT
    given: frozenset[str]
    folder: Path
    log: Log

    @contextmanager
    def working(self) -> Iterator[None]:
        """The folder belongs to this process while the context lasts."""
        try:
            with owned(self.folder), settings_kept():
                self.log.info(f"folder     {self.folder.resolve()}")
                yield
        except Interrupted as error:
            again = f"det {self.kind.command} resume={self.folder}"
            raise Interrupted(error.exit_code - 128, f"stopped; continue with: {again}") from error


def resumed(kind: Kind, config: ConfigT, given: frozenset[str], log: Log) -> Begun[ConfigT]:
    """What ``resume=`` names, with its own options and those that were typed beside it."""
    config_class = type(config)
    folder = find_state(config.resume, config.project, kind.state, kind.noun)
    before, _ = parse(config_class, {"cfg": str(folder / "args.yaml")})
    names = read_note(folder / kind.state).get("given")
    if not isinstance(names, list) or not set(names) <= options_of(config_class).keys():
        raise RunError(f"{folder / kind.state}: is damaged; start a new {kind.noun}")
    changes = {name: getattr(config, name) for name in given - {"resume", "project"}}
    log.to_file(folder / "log.txt")
    return Begun(kind, replace(before, **changes), frozenset(names) | changes.keys(), folder, log)
