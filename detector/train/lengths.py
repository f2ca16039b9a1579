"""What follows from the length of a run, as a table: for ``det config`` and docs/training.md.

The numbers come from schedule.py, which training asks too.  Torch is not needed here, no image is
read, and nothing is downloaded: a data set that is not on disk has no table.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...datasets.scan.count import count_images
from ...datasets.sets.dataset import DatasetError
from ..options.train import TrainConfig
from .schedule import (
    batch_norm_momentum,
    batches_per_epoch,
    close_epoch,
    ema_constants,
    repeats_for,
    run_length,
    warmup_steps,
)

EXAMPLES = (
    ("coco8", 4, 16, 100),
    ("coco8", 4, 16, 3),
    ("BCCD", 205, 16, 30),
    ("BCCD", 205, 16, 100),
    ("COCO", 118_287, 64, 300),
)
"""Name, training images, batch and epochs of runs from tiny to large."""

INTRODUCTION = "What follows from the length of a run, by the defaults and whatever is given:"


def what_follows(name: str, images: int, config: TrainConfig) -> dict[str, str]:
    """Quantity -> value, for a run on ``images`` training images."""
    batch, epochs = config.batch_size, config.epochs
    repeats = repeats_for(images, batch, epochs)
    length = run_length(batches_per_epoch(images, batch, repeats), batch, epochs, config.nbs)
    warmup = warmup_steps(length, config.warmup_epochs)
    flat = config.schedule == "flat_cosine" and not config.cos_lr
    decay, tau = ema_constants(length, config.ema_decay)
    values = {
        "run": name,
        "images": images,
        "batch": batch,
        "steps per epoch": length.steps_per_epoch,
        "epochs": epochs,
        "steps": length.steps,
        "warm-up steps": warmup,
        "flat until step": warmup + (length.steps - warmup) // 2 if flat else warmup,
        "plain epochs at the end": epochs - close_epoch(length, config.close_mosaic),
        "EMA decay": f"{decay:.4f}",
        "tau": f"{tau:.0f}",
        "batch-norm momentum": f"{batch_norm_momentum(length):.4f}",
    }
    return {quantity: str(value) for quantity, value in values.items()}


def examples() -> list[dict[str, str]]:
    """The runs of EXAMPLES with the shipped defaults."""
    defaults = TrainConfig()
    return [
        what_follows(name, images, replace(defaults, batch=batch, epochs=epochs))
        for name, images, batch, epochs in EXAMPLES
    ]


def of_run(config: TrainConfig) -> str:
    """The one run that ``config`` describes, as YAML comments; or why it has none."""
    unknown = "# What follows from the length of the run is "
    try:
        images = count_images(config.data_source, "train")
    except DatasetError as error:
        return f"{unknown}not known: {error}\n"
    if not images:
        return f"{unknown}shown once {config.data} is on disk.\n"
    used = max(round(images * config.fraction), 1)
    return as_comments([what_follows(Path(config.data).stem, used, config)])


def as_comments(runs: list[dict[str, str]]) -> str:
    """Runs side by side, one quantity per line, as YAML comments."""
    widths = [max(map(len, run.values())) for run in runs]
    lines = [f"# {INTRODUCTION}"]
    for quantity in runs[0]:
        cells = (run[quantity].rjust(width) for run, width in zip(runs, widths, strict=True))
        lines.append(f"#   {quantity:<25}{'  '.join(cells)}")
    return "\n".join(lines) + "\n"
