"""A training run on one page: build, choose the precision, loop, evaluate, report."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...weights.checkpoint import CheckpointError, is_state
from ..checkpoints.check import idle_nms
from ..checkpoints.choose import better_start
from ..checkpoints.rebuild import read_state_meta
from ..checkpoints.restore import check_finite, restore
from ..evaluate.postprocess import uses_nms
from ..evaluate.report import metrics_table
from ..options.errors import UsageError
from ..options.names import AUTO
from ..options.train import TrainConfig
from ..precision.ladder import Decision
from ..precision.precision import Precision
from ..quantization.simulate import check_ranges
from ..record.tools import check_log, recorders
from ..report.observer import Page
from ..run.data_place import place_of, write_place
from ..run.files import write_json
from ..run.folder import BEST, LAST, new_run_folder
from ..run.log import Log
from ..run.observer import Finished, Observer, Observers
from ..run.owner import owned
from ..run.rank_info import check_batch
from ..run.ranks import Ranks
from ..run.results_csv import ResultsCsv
from ..run.signals import Interrupted
from ..run.terminal import Terminal
from .assemble import Run, assemble
from .auto_batch import settle_batch
from .check import check_train, idle_words
from .checksums import Checksums
from .decide import State, decide_precision
from .distributed import join
from .evaluator import Evaluator, Measured
from .hints import Hints
from .memory import check_memory
from .memory_budget import Settled, settle_memory
from .opening import say_opening
from .plots import Plots
from .quantize import measured_in, shorten
from .report import write_beginning, write_results
from .resume import check_best, compare_data, find_last, resume_config
from .run_memory import MEMORY, RunMemory
from .trainer import Trainer


def train(
    config: TrainConfig,
    given: frozenset[str],
    log: Log,
    *,
    observers: Iterable[Observer] = (),
    evaluator: Evaluator | None = None,
) -> dict[str, Any]:
    """Train a detector, or continue a run; leaves a run folder.

    observers: are told how the run goes, beside those that write results.csv, the terminal and the
    plots.  evaluator: what is measured after each epoch; None: COCO's metrics.  A process that
    torchrun started is one rank of the run: rank 0 writes, prints and has the observers, and all
    return the same.  Returns the content of results.json, and the paths of the run.
    """
    if evaluator is not None and "best" in given:
        raise UsageError(f"best={config.best}: the score of evaluator= chooses; leave best= out")
    with join(config.device) as ranks, contextlib.ExitStack() as held:
        log.mute = not ranks.first
        if ranks.size > 1:
            check_train(config, given)
        state, folder, last = None, None, Path()
        if config.resume is not None:
            last = find_last(config.resume, config.project)
            if is_state(last):  # or it is refused in the next line, and leaves no lock
                own(last.parents[1], ranks, held)
            config, state = resume_config(config, given, last, log)
            folder = last.parents[1]
            check_log(config.log)
        else:
            config = shorten(config, given, log)
        settled = settle_memory(config, log, ranks) if config.memory else None
        measured = settled is not None or (config.memory_share is not None and state is None)
        config = settled.config if settled else settle_batch(config, log, ranks)
        check_batch(config.batch_size, ranks.size)
        meta = read_state_meta(state, last) if state else None
        transferred = frozenset(state["transferred"] if state else ())
        with log.repeating() if measured else contextlib.nullcontext():
            run = assemble(config, log, meta, transferred, ranks)
        with contextlib.closing(run):
            if state is not None and folder is not None:
                compare_data(run, state, folder, "data" in given, log)
            log.once(idle_words(run.config, given if state is None else frozenset()))
            used = uses_nms(run.config.nms, run.model.branches)
            log.once(idle_nms(run.config, given, used=used))
            memory = RunMemory(run)
            decision = settled.decision if settled else decide_precision(run, state, log)
            if not measured:
                check_memory(run, decision.precision)
            weigh(memory, decision, settled, folder)
            if config.dry_run:
                return plan(run, decision, memory, log)
            folder = begin(run, decision, memory, folder, log, held)
            if state is None:
                advise(run, config, log)
            drawn: list[Observer] = [Plots(run)] if config.plots else []
            drawn += [Page()] if config.report else []
            tools = recorders(run.config.log, log, offline=run.config.offline)
            sums = Checksums(run)
            ours = [ResultsCsv(), Terminal(log), Hints(run, log), sums, *drawn]
            told = Observers([*ours, *tools, *observers] if ranks.first else [], log.warn)
            trainer = sums.trainer = Trainer(run, decision, folder, log, told, evaluator)
            if state is not None:
                if trainer.budget:
                    trainer.budget.before = state["position"]["seconds"]
                continue_from(trainer, state, last)
                check_finite(run.model.state_dict(), last)
                check_ranges(run.model, last)
                check_best(trainer, log)
            memory.begin()
            try:
                trainer.fit()
                return ranks.broadcast(finish(trainer, memory))
            except Interrupted as error:
                told.failed(str(error))
                report_stopped(trainer, memory, Observers(drawn, log.warn))
                raise
            except BaseException as error:
                told.failed(str(error) or type(error).__name__)
                raise


def advise(run: Run, config: TrainConfig, log: Log) -> None:
    """Say what would be better than a start from scratch.  config: as the user gave it."""
    if run.transferred is not None or config.model == AUTO:  # of auto it has been said
        return
    if line := better_start(config, len(run.train.records)):
        log.info(line)


def continue_from(trainer: Trainer, state: State, path: Path) -> None:
    """Load a state into a run that was built for it.  Raises CheckpointError where it does not
    fit."""
    try:
        trainer.load_state_dict(state)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = str(error).splitlines()[-1].strip()[:200]
        raise CheckpointError(
            f"{path} does not fit the run that it describes ({reason}); use an older copy"
        ) from error
    batch, batches = trainer.at.batch, len(trainer.run.train_loader)
    if batch > batches:
        raise CheckpointError(
            f"{path} stopped at batch {batch}, and an epoch has {batches} now: the data have "
            "changed, or the file is damaged; use an older copy"
        )


def own(folder: Path, ranks: Ranks, held: contextlib.ExitStack) -> None:
    """Own the run folder until ``held`` ends.  Raises FolderInUse."""
    if ranks.first:
        held.enter_context(owned(folder))


def weigh(
    memory: RunMemory, decision: Decision, settled: Settled | None, folder: Path | None
) -> None:
    """Estimate what the run takes, and add what is known of its budget.  settled: it was met now.
    folder: of the run that continues."""
    if settled:
        memory.peak.base, memory.note = settled.idle, settled.note()
    elif folder is not None:
        memory.read(folder)
    memory.estimate(decision.precision)


def plan(run: Run, decision: Decision, memory: RunMemory, log: Log) -> dict[str, Any]:
    """What ``dry_run=True`` says instead of a training: the opening, and nothing is written."""
    if run.ranks.first:
        say_opening(run, decision, memory, None, log)
    return {
        "dry_run": True,
        "model": run.model.name,
        "precision": asdict(decision.precision),
        "memory": memory.facts() | {"peak": None, "error": None},
        "best": None,
    }


def begin(
    run: Run,
    decision: Decision,
    memory: RunMemory,
    folder: Path | None,
    log: Log,
    held: contextlib.ExitStack,
) -> Path:
    """Write what is known before the first step.  folder: of the run that continues; None makes a
    new one, owned until ``held`` ends."""
    made = folder
    if run.ranks.first:
        if folder is None:
            made = new_run_folder(run.config, "train")
            own(made, run.ranks, held)
        assert made is not None
        write_place(made, place_of(run.config.data_source, run.dataset, (run.train, run.val)))
        write_beginning(made, run, decision if folder is None else None, log)
        if memory.note:
            write_json(made / MEMORY, memory.note)
        elif folder is None:
            (made / MEMORY).unlink(missing_ok=True)  # of another run, with exist_ok=True
        say_opening(run, decision, memory, made, log)
    made = run.ranks.broadcast(made)
    assert made is not None
    return made


def example(run: Run) -> str | None:
    """An image to try the detector on: the first to validate with a box."""
    return next((str(record.path) for record in run.val.records if len(record.labels)), None)


def report_stopped(trainer: Trainer, memory: RunMemory, drawn: Observers) -> None:
    """After a signal: results.json, pictures and page of what was measured so far."""
    if not trainer.at.rows or not trainer.ranks.first:
        return
    measured = trainer.best_measured or Measured(math.nan, {})
    results = write_results(trainer, measured, memory, stopped=True)
    drawn.finished(Finished(trainer.folder, results, measured.evaluation))


def finish(trainer: Trainer, memory: RunMemory) -> dict[str, Any]:
    """Measure the best weights in the precision that they were chosen in (the run may have fallen
    back since), and report.

    A run that saved none measures its last weights, and reads no file: what lies in the folder is
    another run's.
    """
    run, folder, saves = trainer.run, trainer.folder, trainer.config.save
    model, precision = run.deployed, measured_in(run.model, trainer.precision)
    last = str(folder / LAST) if saves else None
    best = str(folder / BEST) if saves and trainer.at.best_epoch >= 0 else None
    which = f"last weights (epoch {trainer.at.epoch})"
    if best is not None:
        restored = run.ranks.broadcast(restore(Path(best)) if run.ranks.first else None)
        assert restored is not None
        model, meta = restored[0].to(run.device), restored[1]
        reason = "the precision of the best epoch"
        precision = Precision(meta.precision, run.device.type, reason, meta.fp32_stages)
        which = f"best weights (epoch {meta.epoch})"
    measured = trainer.evaluator(model, precision, run, trainer.log)
    if not run.ranks.first:
        return {}
    if measured.evaluation is not None:
        metrics_table(trainer.log, measured.evaluation, f"{run.dataset.name}, {which}")
    results = write_results(trainer, measured, memory)
    results |= {"folder": str(folder), "best": best, "last": last, "example": example(run)}
    trainer.observers.finished(Finished(folder, results, measured.evaluation))
    return results
