"""What a run folder says about its run, in the order of the page.

Everything comes from files of the folder, so the page of an old run can be written anew.  A file
that is missing leaves its part of the page out.  Nothing is measured here, and torch is not needed.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...datasets.formats.texts import load_json
from ...files.errors import InputError
from ...files.yaml_text import YamlError, read_yaml
from ..options.fields import options_of
from ..options.train import TrainConfig
from ..options.val import ValConfig
from .verdict import verdict

MOST_CONFUSED = 8
"""Pairs of classes that are named beside the confusion matrix."""

HARDEST = {
    "missed": "Most missed boxes",
    "false": "Most false alarms",
    "overlap": "Lowest overlap of boxes that were found",
}
"""Kind of hard image in hardest.json -> its heading."""


class NoRun(InputError):
    """There is no finished run in a folder, or its files are damaged."""


def contents(folder: Path) -> dict[str, Any]:
    """The parts of the page.  Raises NoRun where results.json or args.yaml cannot be used."""
    results = _mapping(folder, "results.json")
    if not isinstance(results.get("metrics"), Mapping):
        raise NoRun(f"{folder}: results.json has no metrics; expected the folder of a det run")
    amp = _mapping(folder, "amp.json", needed=False)
    metrics, training = results["metrics"], "train_seconds" in results
    return {
        "name": folder.resolve().name,
        "training": training,
        "results": results,
        "metrics": metrics,
        "verdict": verdict(results, amp),
        "per_class": [row for row in metrics.get("per_class") or () if row["boxes"]],
        "confused": confused(metrics),
        "reasons": results.get("reasons") or [],
        "findings": results.get("findings"),
        "amp": amp,
        "hardest": _hardest(folder),
        "pictures": {
            file.stem: picture(file)
            for file in (*sorted(folder.glob("*.png")), folder / "val_worst.jpg")
            if file.is_file()
        },
        "command": command(folder, training),
        "environment": _environment(results),
    }


def confused(metrics: Mapping[str, Any]) -> list[tuple[int, str | None, str | None]]:
    """The most frequent errors: count, true class, predicted class; None where there is no box."""
    names = [*(row["name"] for row in metrics.get("per_class") or ()), None]
    cells = [
        (count, names[true], names[found])
        for true, row in enumerate(metrics.get("confusion") or ())
        for found, count in enumerate(row)
        if true != found and count
    ]
    return sorted(cells, key=lambda cell: -cell[0])[:MOST_CONFUSED]


def picture(file: Path) -> Markup:
    """A picture as an address that needs no file beside the page."""
    kind = "png" if file.suffix == ".png" else "jpeg"
    text = base64.b64encode(file.read_bytes()).decode()
    return Markup(f"data:image/{kind};base64,{text}")  # nothing to escape in megabytes of base64


def command(folder: Path, training: bool) -> str | None:
    """The command that repeats the run: its options that are not the defaults."""
    file = folder / "args.yaml"
    if not file.is_file():
        return None
    try:
        values = read_yaml(file)
    except YamlError as error:
        raise NoRun(f"{error}; expected the options of a run") from error
    if not isinstance(values, Mapping):
        raise NoRun(f"{file}: has no options; expected the options of a run")
    words = ["det", "train" if training else "val"]
    for name, option in options_of(TrainConfig if training else ValConfig).items():
        value = values.get(name, option.default)
        if value != option.default and name not in ("resume", "exist_ok"):
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words.append(f"{name}={text}")
    return shlex.join(words)


def _mapping(folder: Path, name: str, *, needed: bool = True) -> Mapping[str, Any]:
    """The object in a JSON file; empty where there is none and it is not needed."""
    file = folder / name
    if not file.is_file():
        if needed:
            raise NoRun(
                f"{folder}: no {name} there; expected the folder of a finished run (runs/train)"
            )
        return {}
    content = load_json(file)
    if not isinstance(content, Mapping):
        raise NoRun(f"{file}: expected an object with the results of a run")
    return content


def _hardest(folder: Path) -> list[dict[str, Any]]:
    """Heading, images and picture of each kind of hard image."""
    kinds = _mapping(folder, "hardest.json", needed=False)
    found = []
    for kind, title in HARDEST.items():
        file = folder / f"hardest_{kind}.jpg"
        if kinds.get(kind) and file.is_file():
            found.append({"title": title, "images": kinds[kind], "picture": picture(file)})
    return found


def _environment(results: Mapping[str, Any]) -> dict[str, Any]:
    """Where the run was made."""
    facts = {name: results.get(name) for name in ("device", "platform", "ranks", "head")}
    facts |= results.get("versions") or {}
    return {name: fact for name, fact in facts.items() if fact is not None}
