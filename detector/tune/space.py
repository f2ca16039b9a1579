"""What a search varies: the ranges that were given, or ranges around the defaults.

The default space is what matters most in detectors that are fine-tuned or trained on few images:
learning rate, momentum, decay, gains of the loss, augmentation, warm-up and EMA.  Its ranges lie
around the values that the defaults stand for in a run of this length, so they follow from the
number of images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from ...files.yaml_text import YamlError, read_yaml
from ..checkpoints.check import start_of
from ..options.errors import UsageError
from ..options.ranges import Range, read_range, read_ranges
from ..options.train import TrainConfig
from ..options.tune import TuneConfig
from ..run.files import write_text
from ..train.familiar import share_of
from ..train.optim import choose_optimizer, settle_optimizer
from ..train.schedule import (
    batches_per_epoch,
    ema_constants,
    repeats_for,
    run_length,
    warmup_steps,
)

Space = Mapping[str, Range]
FEW = 5000
"""Images below which blending two of them (mixup) is worth a try."""


def given_space(config: TuneConfig) -> dict[str, Range]:
    """The ranges of ``space=`` and ``ranges=``; {} where none are given.  Raises UsageError."""
    found = read_space(Path(config.space)) if config.space else {}
    return found | (read_ranges(config.ranges) if config.ranges else {})


def read_space(path: Path) -> dict[str, Range]:
    """The ranges of a YAML file.  Raises UsageError where it cannot be read."""
    if not path.is_file():
        raise UsageError(f"space={path}: no such file (looked in {path.parent.absolute()})")
    try:
        content = read_yaml(path)
    except YamlError as error:
        raise UsageError(f"space={error}") from None
    if not isinstance(content, dict) or not content:
        raise UsageError(f"space={path}: expected lines of 'option: range', e.g. mosaic: 0..1")
    try:
        return {str(name): read_range(str(name), text) for name, text in content.items()}
    except UsageError as error:
        raise UsageError(f"space={path}: {error}") from None


def write_space(path: Path, space: Space) -> None:
    """Write a space as ``read_space`` reads it."""
    values = {n: list(r.choices) if r.choices else str(r) for n, r in space.items()}
    write_text(path, yaml.safe_dump(values, sort_keys=False))


def nominal(config: TrainConfig, images: int) -> dict[str, Any]:
    """Every option as a number or name, where a default of None stands for one: what the defaults
    are in a run on ``images`` images."""
    choice = choose_optimizer(settle_optimizer(config, start_of(config) is not None))
    repeats = repeats_for(images, config.batch_size, config.epochs)
    batches = batches_per_epoch(images, config.batch_size, repeats)
    length = run_length(batches, config.batch_size, config.epochs, config.nbs)
    return asdict(config) | {
        "optimizer": choice.name,
        "lr0": choice.lr0,
        "momentum": choice.momentum,
        "weight_decay": choice.weight_decay,
        "lr_transferred": share_of(config),
        "warmup_epochs": warmup_steps(length, config.warmup_epochs) / length.steps_per_epoch,
        "ema_decay": ema_constants(length, config.ema_decay)[0],
    }


def default_space(config: TuneConfig, given: frozenset[str], images: int) -> dict[str, Range]:
    """Ranges around the defaults; what was typed stays as it is, and has none."""
    usual = nominal(config, images)
    lr0, decay = usual["lr0"], usual["weight_decay"]
    reach = 1.0 - usual["ema_decay"]  # 1 / steps that the average reaches back over
    ranges = [
        Range("lr0", lr0 / 4, lr0 * 4, log=True),
        Range("momentum", 0.8, 0.97),
        Range("weight_decay", decay / 10, decay * 10, log=True),
        Range("box", 2.5, 15.0, log=True),
        Range("cls", 0.2, 2.0, log=True),
        Range("mosaic", 0.0, 1.0),
        Range("scale", 0.1, 0.9),
        Range("hsv_s", 0.0, 0.9),
        Range("hsv_v", 0.0, 0.9),
        Range("mixup", 0.0, 0.3 if images < FEW else 0.15),
        Range("warmup_epochs", 0.0, max(2 * usual["warmup_epochs"], 0.1 * config.epochs)),
    ]
    if config.ema:
        ranges.append(Range("ema_decay", max(1 - 4 * reach, 0.0), 1 - reach / 4))
    if start_of(config) is not None:
        ranges.append(Range("lr_transferred", 0.05, 1.0, log=True))
    return {each.name: each for each in ranges if each.name not in given}
