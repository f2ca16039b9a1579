"""``det config``: print options as YAML."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..options import completion, pages
from ..options.catalog import MODEL_COMMANDS, Command
from ..run.log import Log
from .outcome import Outcome


def execute(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    """Print every option with its default, or the values of one command."""
    if command.path != ("config",):
        of = next(other for other in MODEL_COMMANDS if other.path == command.path[1:])
        text = f"# det {of.name}: {of.summary} Use this with det {of.name} cfg=FILE.\n"
        text += pages.as_yaml(of, asdict(config))
        if of.name == "train":
            from ..train import lengths

            text += "\n" + lengths.of_run(config)
        return Outcome(asdict(config), text.rstrip())
    defaults = {c.name: asdict(c.config()) for c in MODEL_COMMANDS}
    if config.markdown:
        text = pages.as_markdown()
    elif config.options:
        text = pages.option_list()
    elif config.completion:
        text = completion.script("bash" if config.completion is True else str(config.completion))
    else:
        from ..train import lengths

        text = pages.all_as_yaml() + "\n" + lengths.as_comments(lengths.examples())
    return Outcome(defaults, text.rstrip())
