"""What a run writes beside its weights: at its beginning the options, the transferred tensors and
the decision on precision; at its end results.json."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...datasets.scan.scan import summarize_findings
from ...files.atomic import remove_partials
from ..evaluate.postprocess import head_in_use
from ..precision.ladder import Decision, write_decision
from ..record.tracker import IDENTITY
from ..run.device import describe_device
from ..run.files import write_args, write_csv, write_json, write_text
from ..run.log import Log
from .assemble import Run
from .describe import describe_data, versions
from .evaluator import Measured
from .optim import newton_schulz_precision
from .reasons import reasons
from .run_memory import RunMemory

if TYPE_CHECKING:
    from .trainer import Trainer


def write_beginning(folder: Path, run: Run, decision: Decision | None, log: Log) -> None:
    """Write what is known before the first step.  decision: None when a run continues."""
    remove_partials(folder)
    log.to_file(folder / "log.txt")
    write_args(folder, run.config)
    if run.dataset.hold_out is not None:
        for scan in (run.train, run.val):
            paths = "".join(f"{record.path}\n" for record in scan.records)
            write_text(folder / "split" / f"{scan.split}.txt", paths)
    if run.transferred is not None:
        write_text(folder / "transfer.txt", run.transferred.details())
    if decision is not None:
        write_decision(folder / "amp.json", decision)
        (folder / IDENTITY).unlink(missing_ok=True)  # of another run, with exist_ok=True


def write_results(
    trainer: Trainer, measured: Measured, memory: RunMemory, *, stopped: bool = False
) -> dict[str, Any]:
    """results.json: metrics of the best weights, environment, data and effective precision.

    stopped: before its last epoch was done.  Returns its content.
    """
    run, at = trainer.run, trainer.at
    results = {
        "model": run.model.name,
        "start": dict(run.provenance),
        "epochs": len(at.rows),
        "best_epoch": at.best_epoch,
        "best_by": trainer.evaluator.name,
        "stopped": stopped,
        "head": head_in_use(run.config.nms, run.model.branches),
        "precision": {
            "name": trainer.precision.name,
            "fp32_stages": list(trainer.precision.fp32_stages),
            "reason": trainer.precision.reason,
            "newton_schulz": newton_schulz_precision(run.optimizer),
        },
        "micro_batch": trainer.step.micro_batch and trainer.step.micro_batch * run.ranks.size,
        "memory": memory.facts(),
        "skipped_updates": at.skipped,
        "failures": [str(failure) for failure in trainer.guard.failures],
        "device": describe_device(run.device),
        "ranks": run.ranks.size,
        "data": describe_data(run),
        "lost_images": sorted({*run.train_loader.lost.values(), *run.val_loader.lost.values()}),
        "findings": [
            f"{scan.split}: {line}"
            for scan in (run.train, run.val)
            for line in summarize_findings(scan)
        ],
        "metrics": dict(measured.metrics),
        "reasons": reasons(run, measured.metrics.get("map"), at.updates, at.rows)
        if measured.evaluation
        else [],
        "speed_ms": measured.evaluation.speed if measured.evaluation else {},
        "train_seconds": at.seconds,
        "versions": versions(),
        "platform": platform.platform(),
    }
    write_csv(trainer.folder / "results.csv", at.rows)  # observers only warn where they fail
    write_json(trainer.folder / "results.json", results)
    return results
