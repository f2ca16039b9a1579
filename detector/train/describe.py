"""What the files of a run say about it: its data, options and versions."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ...datasets.sets.source import DataSource
from ...weights.checkpoint import SCHEMA, USUAL_SCHEMA, Meta
from ..models.build import architecture_of
from ..precision.precision import Precision
from .assemble import Run
from .position import Position
from .quantize import measured_in


def describe_run(run: Run, at: Position, precision: Precision, metrics: dict[str, Any]) -> Meta:
    """The metadata of a checkpoint written now.  precision: of the training; the checkpoint names
    that of its validation."""
    size, precision = run.image_size.plain, measured_in(run.model, precision)
    read: dict[str, Any] = {"pixels": run.config.pixels}
    read |= {"rect": True} if run.config.rect else {}
    return Meta(
        model=run.model.name,
        class_names=run.class_names,
        image_size=size,
        schema=SCHEMA
        if run.config.qat
        or run.config.rect
        or isinstance(size, tuple)
        or run.model.channels == 1
        or precision.fp32_stages
        else USUAL_SCHEMA,
        strides=run.model.strides,
        architecture=architecture_of(run.model),
        quantization=run.config.qat,
        precision=precision.name,
        fp32_stages=precision.fp32_stages,
        epoch=at.epoch,
        step=at.updates,
        data=describe_data(run),
        metrics={k: v for k, v in metrics.items() if not isinstance(v, list | dict)},
        confidence=dict(metrics.get("confidence", {})),
        config=portable(asdict(run.config)),
        versions=versions(),
        preprocess=run.model.preprocessing | read,
        license=run.provenance["license"],
        provenance=run.provenance["provenance"],
    )


def versions() -> dict[str, str]:
    """Versions of the libraries that computed the numbers."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": version("torchvision"),
    }


def describe_data(run: Run) -> dict[str, Any]:
    """Name, size and fingerprint of the data of a run, how its classes are balanced, and which
    teacher labels them too; no path of the machine."""
    balanced: dict[str, Any] = {}
    if run.balance is not None:
        balanced["balance_threshold"] = run.balance.threshold
    if (weights := run.criterion.class_weights) is not None:
        balanced["class_weights"] = weights.tolist()
    taught = run.criterion.distillation
    return {
        **balanced,
        **({} if taught is None else {"teacher": dict(taught.about)}),
        "name": run.dataset.name,
        "yaml": None if Path(run.config.data).is_absolute() else run.config.data,
        "stand_in_for": run.dataset.stand_in,
        "train_images": len(run.train.records),
        "val_images": len(run.val.records),
        "train_fingerprint": run.train.fingerprint,
        "val_fingerprint": run.val.fingerprint,
    }


MACHINE = (
    "project", "name", "device", "threads", "augment_device", "workers", "resume", "exist_ok",
    "verbose", "data", "images", "model", "dry_run", "memory",
    "pretrained", "teacher", "cache", "offline", "accept_license", "log",
)  # fmt: skip
"""Options about one machine or its paths; checkpoints leave them out."""


def portable(config: dict[str, Any]) -> dict[str, Any]:
    """The options without those of one machine."""
    kept = {key: value for key, value in config.items() if key not in MACHINE}
    if isinstance(kept.get("val"), str) and DataSource("", val=kept["val"]).held_out is None:
        del kept["val"]  # a path
    return kept
