"""Commands of Ultralytics: the task and mode words, and commands that det calls by another name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .errors import UsageError

TASK = "detect"
OTHER_TASKS = ("segment", "semantic", "depth", "classify", "pose", "obb")
RENAMED = {
    "checks": ("info",),
    "check": ("info",),
    "cfg": ("config",),
    "benchmark": ("bench", "export"),
}
"""Their command -> ours."""

ANSWERS = {
    "copy-cfg": "write det config train > options.yaml, change it, then det train cfg=options.yaml",
    "settings": "det has no settings file: options are typed, or come from cfg=options.yaml; "
    "log=tensorboard,wandb,mlflow,json keeps a run in these tools",
    "login": "det has no account: everything runs on this machine",
    "logout": "det has no account: everything runs on this machine",
    "hub": "det has no account: everything runs on this machine",
    "solutions": "det detects only; count or draw with the boxes of det predict save_json=True",
    **dict.fromkeys(
        ("explorer", "explore"),
        "det has no explorer; det data check data=data.yaml looks through a data set",
    ),
    "test": "write det val, with split=test for the images of that split",
    **dict.fromkeys(("infer", "inference"), "write det predict"),
    "convert": "write det data convert for data sets, det weights convert for checkpoints, or det "
    "export",
}
"""Commands of theirs and of other trainers -> what to do in det."""

_WORD = re.compile(r"(?:--)?(task|mode)=(.*)")


def as_ours(tokens: Sequence[str], commands: Sequence[str]) -> list[str]:
    """The tokens of a command line with the command words of det.

    commands: first words of det's commands.  ``detect`` and ``task=detect`` are dropped,
    ``mode=train`` is the command ``train`` where none is typed.  Raises UsageError for another
    task and for a command that det does not have.
    """
    rest, mode = [], ""
    for token in tokens:
        match = _WORD.fullmatch(token)
        if match is None:
            rest.append(token)
        elif match[1] == "mode":
            mode = match[2].lower()
        elif match[2].lower() != TASK:
            raise UsageError(f"{token}: det only detects objects; leave it out")
    at = _place(rest)
    if at is not None and rest[at] in (TASK, *OTHER_TASKS):
        if rest[at] != TASK:
            raise UsageError(f"det only detects objects: '{rest[at]}' is no task of det")
        del rest[at]
        at = _place(rest)
    word = rest[at] if at is not None else ""
    if mode and mode != word:
        if word in commands:
            raise UsageError(f"mode={mode} contradicts det {word}: leave one of them out")
        rest.insert(0, mode)
        at, word = 0, mode
    if at is None or word in commands:
        return rest
    if word in ANSWERS:
        raise UsageError(f"unknown command 'det {word}': {ANSWERS[word]}")
    return [*rest[:at], *RENAMED.get(word, (word,)), *rest[at + 1 :]]


def _place(tokens: Sequence[str]) -> int | None:
    """Where the first word without ``=`` stands; None where there is none."""
    for place, token in enumerate(tokens):
        if "=" not in token and not token.startswith("-"):
            return place
    return None
