"""``det weights``: what can be downloaded, what a file says about itself, other people's files made
ours.

Torch, and all else that takes long to import, is left alone until tensors are needed: listing, and
a look into a ``.safetensors``, answer at once.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..weights.describe import describe_file
from ..weights.zoo import ZOO, licence_notice
from .commands import WeightsConvertConfig, WeightsDownloadConfig, WeightsInfoConfig
from .config import MODELS
from .export.formats import format_of
from .log import Log
from .parse import UsageError, nearest
from .pretrained import FOREIGN, check_obtainable, converted, weights_folder

SUFFIX = ".safetensors"
COLUMNS = ("name", "task", "imgsz", "AP", "params M", "licence", "trained on", "here", "source")


def describe(model: str) -> dict[str, Any]:
    """What a model name or a checkpoint file is.  Raises UsageError where it is neither."""
    if model in MODELS:
        from .api import info  # torch

        return info(model)
    return _describe_path(Path(model))


def _describe_path(path: Path) -> dict[str, Any]:
    if format_of(path) is not None and path.exists():
        from .export.exported import about_file  # torch

        return {"file": path.name, "kind": "exported file", **asdict(about_file(path))}
    if path.suffix not in (SUFFIX, *FOREIGN) or not path.is_file():
        from .checks import check_model  # it knows what to say, but takes long to import

        check_model(str(path))
    return describe_file(path)


def list_weights() -> dict[str, Any]:
    """Everything in the zoo, and whether it is on disk."""
    rows = [
        asdict(entry) | {"url": entry.url, "downloaded": converted(name).is_file()}
        for name, entry in ZOO.items()
    ]
    return {"folder": str(weights_folder()), "weights": rows}


def as_table(listing: dict[str, Any]) -> str:
    """``list_weights`` for people: AP is COCO val 0.50:0.95 as published."""
    rows = [COLUMNS]
    for row in listing["weights"]:
        numbers = (str(row["image_size"]), f"{row['ap']:.1f}", f"{row['parameters']:g}")
        here = "yes" if row["downloaded"] else "no"
        facts = (row["licence"], row["trained_on"], here, row["url"])
        rows.append((row["name"], row["task"], *numbers, *facts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    note = f"folder: {listing['folder']}\nuse one: det train model=yolov9s data=..."
    return "\n".join([*lines, note])


def info(config: WeightsInfoConfig, log: Log) -> dict[str, Any]:
    """What a checkpoint, or a name of the zoo, is.  Raises UsageError, and what reading raises."""
    word = _needed(config.model, "info FILE")
    if word in ZOO:
        path = converted(word)
        entry = asdict(ZOO[word]) | {"url": ZOO[word].url}
        return describe_file(path) if path.is_file() else entry | {"downloaded": False}
    if word in MODELS:
        raise UsageError(f"{word} has no weights yet: det info {word} describes the model")
    return _describe_path(Path(word))


def convert_file(config: WeightsConvertConfig, log: Log) -> dict[str, Any]:
    """Write a checkpoint of another project as one of ours.  Raises UsageError, and what reading
    and writing raise."""
    usage = "convert IN.pt OUT.safetensors"
    source, target = Path(_needed(config.file, usage)), Path(_needed(config.out, usage))
    if not source.is_file() or source.suffix not in FOREIGN:
        raise UsageError(f"{source}: expected a file that ends in {' or '.join(FOREIGN)}")
    if target.suffix != SUFFIX:
        raise UsageError(f"out={target}: expected a name that ends in {SUFFIX}")
    if target.exists():
        raise UsageError(f"out={target} exists: take another name, or remove it")
    from .models.adopt import convert  # torch

    meta = convert(source, target)
    if notice := licence_notice(source.name, meta.licence, meta.provenance):
        log.warn(notice)
    return describe_file(target) | {"written": str(target)}


def fetch(config: WeightsDownloadConfig, log: Log) -> dict[str, Any]:
    """Download and convert weights of the zoo.  Raises UsageError, LicenceError, DownloadFailed."""
    name = _needed(config.model, "download NAME")
    if name not in ZOO:
        near = " or ".join(nearest(name, ZOO))
        hint = f"did you mean {near}?" if near else f"there are {', '.join(ZOO)}"
        raise UsageError(f"there are no weights of {name}: {hint}")
    offline, accepted = config.offline, config.accept_license
    check_obtainable(name, offline=offline, accept_license=accepted)
    from .models.obtain import obtain  # torch

    with log.progress(f"fetching {name}", 0) as update:
        path = obtain(
            name,
            offline=offline,
            accept_license=accepted,
            on_message=log.message,
            on_progress=update,
        )
    return describe_file(path) | {"path": str(path)}


def _needed(word: str | None, usage: str) -> str:
    if word is None:
        raise UsageError(f"say which: det weights {usage}")
    return word
