"""``det weights`` and ``det info``: list, describe, convert and download weights.

Torch is imported only when tensors are needed: listing the weights and describing a
``.safetensors`` answer at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ...files.version import __version__
from ...weights.checkpoint import Meta
from ...weights.describe import describe_file
from ...weights.noted import note, read_notes
from ...weights.shelf import check_obtainable, converted, is_here, weights_folder
from ...weights.zoo import ZOO, license_notice
from ..options.catalog import Command
from ..options.errors import UsageError, nearest
from ..options.formats import FORMATS, format_of, require
from ..options.names import FOREIGN, MODELS
from ..options.shared import DownloadConfig, RunsConfig
from ..options.val import ValConfig
from ..options.weights import (
    InfoConfig,
    WeightsCheckConfig,
    WeightsConvertConfig,
    WeightsDownloadConfig,
    WeightsInfoConfig,
)
from ..run.log import Log
from .outcome import Outcome
from .show import as_lines, join

SUFFIX = ".safetensors"
ONNX = FORMATS["onnx"].suffix
COLUMNS = (
    *("name", "task", "imgsz", "AP", "AP here", "params M", "GFLOPs", "license", "trained on"),
    *("here", "source"),
)


def describe(model: str, log: Log) -> dict[str, Any]:
    """Facts of a model name or a checkpoint file.  Raises UsageError where it is neither."""
    if model in MODELS:
        log.loading_torch()
        from ..models.build import build

        return build(model, 80).describe()
    return _describe_path(Path(model), log)


def _describe_path(path: Path, log: Log) -> dict[str, Any]:
    if format_of(path) is not None and path.exists():
        log.loading_torch()
        from ..export.exported import about_file

        return {"file": path.name, "kind": "exported file", **asdict(about_file(path))}
    if path.suffix not in (SUFFIX, *FOREIGN) or not path.is_file():
        from ..checkpoints.check import check_model  # raises the right error

        check_model(str(path))
    return describe_file(path)


def list_weights(bench: bool = False, log: Log | None = None) -> dict[str, Any]:
    """All weights of the zoo, whether each is on disk, and what was measured with it here.

    bench: with the milliseconds per image, measured now where they are not known.
    """
    notes = read_notes()
    rows = [
        asdict(entry)
        | {"url": entry.url, "license_text": entry.license_text, "downloaded": is_here(name)}
        | {"ap_here": notes.get(name, {}).get("ap")}
        for name, entry in ZOO.items()
    ]
    listing: dict[str, Any] = {"folder": str(weights_folder()), "weights": rows}
    if bench and log is not None:
        log.loading_torch()
        from ..examine.zoo_speed import milliseconds

        with log.progress("measuring models", len(ZOO)) as update:
            listing["device"], times = milliseconds(ZOO.values(), update)
        for row in rows:
            row["ms"] = times[row["name"]]
    return listing


def as_table(listing: dict[str, Any]) -> str:
    """``list_weights`` for people: AP is COCO val 0.50:0.95 as published; ``AP here`` what det
    weights check found, and on how many images."""
    timed = "device" in listing
    rows = [(*COLUMNS[:7], *(["ms"] if timed else []), *COLUMNS[7:])]
    for row in listing["weights"]:
        numbers = [str(row["image_size"]), f"{row['ap']:.1f}", _reached(row["ap_here"])]
        numbers += [f"{row['parameters']:g}", f"{row['gflops']:g}"]
        numbers += [f"{row['ms']:.1f}"] if timed else []
        here = "yes" if row["downloaded"] else "no"
        facts = (row["license"], row["trained_on"], here, row["url"])
        rows.append((row["name"], row["task"], *numbers, *facts))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if timed:
        lines.append(f"ms: one image in float32 without NMS on {listing['device']}")
    lines.append(f"folder: {listing['folder']}\nnext: det train model=yolov9s data=...")
    return "\n".join(lines)


def _reached(noted: Any) -> str:
    """AP that was found here, in percent, and the number of images."""
    match noted:
        case {"ap": float(ap), "images": int(images)}:
            return f"{100 * ap:.1f} ({images})"
    return "-"


def info(config: WeightsInfoConfig, log: Log) -> dict[str, Any]:
    """Facts of a checkpoint or a name of the zoo.  Raises UsageError, and what reading raises."""
    word = _needed(config.model, "info FILE")
    if word in ZOO:
        path = converted(word)
        entry = asdict(ZOO[word]) | {"url": ZOO[word].url, "license_text": ZOO[word].license_text}
        return describe_file(path) if path.is_file() else entry | {"downloaded": is_here(word)}
    if word in MODELS:
        raise UsageError(f"{word} has no pretrained weights: det info {word} describes the model")
    return _describe_path(Path(word), log)


def convert_file(config: WeightsConvertConfig, log: Log) -> dict[str, Any]:
    """Write a checkpoint of another project as one of det.  Raises UsageError, and what reading
    and writing raise."""
    usage = "convert IN.pt OUT.safetensors"
    kinds = (*FOREIGN, ONNX)
    source, target = Path(_needed(config.file, usage)), Path(_needed(config.out, usage))
    if not source.exists():
        raise UsageError(f"{source} does not exist")
    if not source.is_file() or source.suffix not in kinds:
        raise UsageError(f"{source}: expected a file that ends in {', '.join(FOREIGN)} or {ONNX}")
    if target.suffix != SUFFIX:
        raise UsageError(f"out={target}: expected a name that ends in {SUFFIX}")
    if target.exists():
        raise UsageError(f"out={target} exists: choose another name, or remove it")
    if source.suffix == ONNX:
        meta = _convert_onnx(source, target, config, log)
    else:
        for option in ("license", "origin", "data"):
            if getattr(config, option) is not None:
                raise UsageError(f"{option}= is for ONNX files and has no effect on {source}")
        log.loading_torch()
        from ..checkpoints.adopt import convert

        meta = convert(source, target)
    if notice := license_notice(source.name, meta.license, meta.provenance):
        log.warn(notice)
    return describe_file(target) | {"written": str(target)}


def _convert_onnx(source: Path, target: Path, config: WeightsConvertConfig, log: Log) -> Meta:
    """Convert an ONNX file.  Raises MissingPackage, and what ``convert_onnx`` raises."""
    require(FORMATS["onnx"], to_run=True)
    log.loading_torch()
    from ..checkpoints.from_onnx import convert_onnx, images_to_measure

    images = images_to_measure(config, log) if config.data is not None else []
    return convert_onnx(
        source, target, license=config.license, origin=config.origin, images=images, say=log.info
    )


def fetch(config: WeightsDownloadConfig, log: Log) -> dict[str, Any]:
    """Download and convert weights of the zoo.  Raises UsageError, LicenseError, DownloadError."""
    name = _named(config.model, "download NAME")
    offline, accepted = config.offline, config.accept_license
    check_obtainable(name, offline=offline, accept_license=accepted)
    log.loading_torch()
    from ..checkpoints.fetch import obtain

    with log.progress(f"downloading {name}", 0) as update:
        path = obtain(
            name,
            offline=offline,
            accept_license=accepted,
            on_message=log.message,
            on_progress=update,
        )
    return describe_file(path) | {"path": str(path)}


def check_published(config: WeightsCheckConfig, log: Log) -> dict[str, Any]:
    """Measure weights of the zoo on COCO.  Raises UsageError, what ``fetch`` and ``det val`` raise,
    and OtherThanPublished."""
    from .val import check_val  # with the network's modules

    usage = "check NAME data=COCO"
    name = _named(config.model, usage)
    if config.data is None:
        raise UsageError(f"missing argument: det weights {usage}")
    own = {field.name for field in fields(DownloadConfig) + fields(RunsConfig)}
    words = {word: getattr(config, word) for word in (*own, "data", "batch", "device", "workers")}
    found = check_val(ValConfig(model=name, name="weights-check", plots=False, **words))
    path = fetch(WeightsDownloadConfig(**_of_download(config)), log)["path"]
    from ..checkpoints.evaluate import val
    from ..checkpoints.published import compare

    measured = val(found, frozenset(), log)
    metrics = measured["metrics"]
    if metrics["map"] is not None:
        note(name, "ap", {"ap": float(metrics["map"]), "images": int(metrics["num_images"])})
    return compare(ZOO[name], measured) | {"path": path, "folder": measured["folder"]}


def _of_download(config: WeightsCheckConfig) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in fields(WeightsDownloadConfig)}


def _named(word: str | None, usage: str) -> str:
    """A name of the zoo.  Raises UsageError."""
    name = _needed(word, usage)
    if name not in ZOO:
        near = " or ".join(nearest(name, ZOO))
        hint = f"did you mean {near}?" if near else f"choose from {', '.join(ZOO)}"
        raise UsageError(f"no pretrained weights of {name} exist: {hint}")
    return name


def _needed(word: str | None, usage: str) -> str:
    if word is None:
        raise UsageError(f"missing argument: det weights {usage}")
    return word


def execute(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    """``det info`` and ``det weights list | info | convert | download | check``."""
    if command.path == ("weights", "list"):
        result = list_weights(config.bench, log)
        return Outcome(result, as_table(result))
    run: dict[str, Callable[[Any, Log], dict[str, Any]]] = {
        "info": _machine_or_model,
        "weights info": info,
        "weights convert": convert_file,
        "weights download": fetch,
        "weights check": check_published,
    }
    result = run[command.name](config, log)
    return Outcome(result, join(as_lines(result)))


def _machine_or_model(config: InfoConfig, log: Log) -> dict[str, Any]:
    if config.model is not None:
        return describe(config.model, log)
    log.loading_torch()
    from ..run.machine import describe_machine

    return {"yolodet": __version__, **describe_machine()}
