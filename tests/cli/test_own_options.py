"""What a command does not have is not in its help, and what is there is not refused as unknown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rows import each
from yolodet.cli import main
from yolodet.detector.options.catalog import COMMANDS
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.fields import without_of
from yolodet.detector.options.parse import parse
from yolodet.detector.tune import check as tune_check

REFUSED = "has no option '{0}'|unknown option '{0}'|{0}= belongs? to det|{0}= is a part of det"
"""What is said of an option that a command does not have."""
OTHER = {int: 64, float: 0.1, bool: True, str: "x", tuple: "x"}
NOWHERE = {"data": "none.yaml", "model": "none.safetensors", "source": "none.jpg", "run": "none"}
"""So that nothing runs: what is wrong with an option is said before these are looked for."""


@each("command", [command for command in COMMANDS if command.options.keys() & NOWHERE.keys()])
def test_what_help_lists_is_an_option_of_the_command(command, place, capsys, monkeypatch) -> None:
    """Each with another value than its default: it may be wrong, and never for one of these."""
    monkeypatch.setattr(tune_check.importlib.util, "find_spec", lambda *_: True)
    assert not command.options.keys() & without_of(command.config).keys()
    nowhere = {name: word for name, word in NOWHERE.items() if name in command.options}
    for name, option in command.options.items():
        wanted = next((word for word in option.choices if word != option.default), None)
        value = OTHER[option.kinds[-1]] if wanted is None else wanted
        words = {**nowhere, name: not option.default if option.kinds == (bool,) else value}
        main([*command.path, *(f"{n}={w}" for n, w in words.items())])
        said = capsys.readouterr().err
        assert not re.search(REFUSED.format(name), said), f"{name}={value}: {said}"


def test_what_a_command_does_not_have_is_refused_but_for_its_default(capsys, place) -> None:
    """So that the output of det config train serves every command that trains."""
    assert main(["config", "train", "epochs=3"]) == 0
    Path("my.yaml").write_text(capsys.readouterr().out)
    for command in (c for c in COMMANDS if without_of(c.config)):
        words = ["data=none.yaml", "model=none.safetensors", "cfg=my.yaml"]
        _, given = parse(command.config, dict(word.split("=") for word in words))
        assert given == {"data", "model", "epochs"}
        for name, instead in without_of(command.config).items():
            with pytest.raises(UsageError, match=f"has no option '{name}': {instead}"):
                parse(command.config, {name: "8"})
