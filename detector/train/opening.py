"""What a run says before its first step: what it will do, in the order in which people ask."""

from __future__ import annotations

from pathlib import Path

from ...files.counted import counted
from ..precision.ladder import Decision
from ..run.device import describe_device
from ..run.log import Log
from .assemble import Run
from .familiar import share_of
from .freeze import frozen_parts
from .optim import choose_optimizer, newton_schulz_precision
from .run_memory import RunMemory
from .schedule import close_epoch


def say_opening(
    run: Run, decision: Decision, memory: RunMemory, folder: Path | None, log: Log
) -> None:
    """Folder (None: nothing will be written), data, model, device, precision, memory and length;
    constants go to log.txt only."""
    facts = {
        "folder": str(folder.resolve()) if folder else "none: dry_run=True writes nothing",
        "data": _data(run),
        "model": _model(run),
        "device": _device(run),
        "precision": decision.line(),
        "memory": memory.line(),
        "length": _length(run),
    }
    if run.transferred_names:
        facts["rates"] = _rates(run)
    for name, text in facts.items():
        log.info(f"{name:<10} {text}")
    for line in _constants(run):
        log.detail(line)


def _data(run: Run) -> str:
    used = f" used {run.repeats} times per epoch" if run.repeats > 1 else ""
    return (
        f"{run.dataset.name}: {counted(len(run.train.records), 'training image')}{used}, "
        f"{len(run.val.records)} to validate, {counted(len(run.class_names), 'class')}"
    )


def _model(run: Run) -> str:
    size = sum(p.numel() for p in run.model.parameters())
    origin = run.provenance["provenance"].removeprefix("trained ")
    frozen = frozen_parts(run.model)
    return (
        f"{run.model.name} at {run.image_size} pixels, {size:,} parameters, {origin}"
        + (f"; frozen: {', '.join(frozen)}" if frozen else "")
    )


def _device(run: Run) -> str:
    where = f"{run.ranks.size} ranks, the first on " if run.ranks.size > 1 else ""
    return where + describe_device(run.device)


def _length(run: Run) -> str:
    config, length = run.config, run.length
    images = config.batch_size * run.accumulate
    steps = f"{counted(length.steps_per_epoch, 'step')} of {images} images"
    if config.time is None:
        return f"{counted(length.epochs, 'epoch')} of {steps}"
    return f"time={config.time:g}: the number of epochs ({steps} each) follows from the first steps"


def _rates(run: Run) -> str:
    """What transferred and new tensors learn at."""
    share, rate = share_of(run.config), choose_optimizer(run.config).lr0
    return (
        f"transferred tensors learn at {rate * share:g} (lr_transferred={share:g} of lr0), new "
        f"ones at {rate:g}"
    )


def _constants(run: Run) -> list[str]:
    """Optimizer, schedule and learning rates."""
    config, length, choice = run.config, run.length, choose_optimizer(run.config)
    products = newton_schulz_precision(run.optimizer)
    lines = [
        f"optimizer {choice}{f' in {products}' if products else ''}, {length.steps} steps, "
        f"{run.warmup} of them to warm up, "
        f"mosaic until epoch {close_epoch(length, config.close_mosaic)}"
        + (f", EMA decay {run.ema.decay:.4g}" if run.ema else "")
    ]
    if run.train_loader.fewer_workers:
        lines.append(run.train_loader.fewer_workers)
    return lines
