"""A training run on one page: build, choose the precision, train, evaluate, report."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...weights.checkpoint import Meta
from ..checkpoints.restore import restore
from ..evaluate.report import metrics_table
from ..options.train import TrainConfig
from ..precision.ladder import choose_precision, resumed_precision
from ..precision.precision import Precision
from ..run.folder import BEST, LAST, new_run_folder
from ..run.log import Log
from ..run.rank_info import check_batch
from .assemble import Run, assemble
from .check import check_train
from .distributed import join
from .report import write_beginning, write_plots, write_results
from .resume import find_last, resume_config
from .trainer import Trainer


def train(config: TrainConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Train a detector, or go on training one, and leave a run folder.

    Returns what results.json holds, and where things are.  A process that torchrun has started is
    one rank of the run: the first one writes and talks, all return the same.
    """
    with join(config.device) as ranks:
        log.mute = not ranks.first
        if ranks.size > 1:
            check_train(config, given)
        state, folder, last = None, None, Path()
        if config.resume is not None:
            last = find_last(config.resume, config.project)
            config, state = resume_config(config, given, last, log)
            folder = last.parents[1]
        check_batch(config.batch, ranks.size)
        meta = Meta.from_dict(state["meta"], last) if state else None
        transferred = frozenset(state["transferred"] if state else ())
        run = assemble(config, log, meta, transferred, ranks)
        with contextlib.closing(run):
            return learn(run, state, folder, log)


def learn(
    run: Run, state: Mapping[str, Any] | None, folder: Path | None, log: Log
) -> dict[str, Any]:
    """Choose the precision, train from ``state`` on, measure.  folder: of a run that goes on."""
    config, ranks = run.config, run.ranks
    if state is None:
        decision = choose_precision(
            config,
            run.model,
            run.criterion.alone(),
            lambda: run.train_loader.epoch(0),
            run.device,
            log,
            fresh=run.transferred is None,
            ranks=ranks,
        )
    else:
        decision = resumed_precision(
            state["precision"], run.device, log, force=config.amp_force, ranks=ranks
        )
    if ranks.first:
        folder = folder or new_run_folder(config, "train")
        write_beginning(folder, run, decision if state is None else None, log)
    folder = ranks.broadcast(folder)
    assert folder is not None
    trainer = Trainer(run, decision, folder, log)
    if state is not None:
        trainer.load_state_dict(state)
    trainer.fit()
    return ranks.broadcast(finish(trainer) if ranks.first else {})


def finish(trainer: Trainer) -> dict[str, Any]:
    """Measure the best weights of a run in the precision that they were chosen in (the run may have
    fallen back since), and write its results and pictures.  A run that saves none measures its last
    ones, and looks at no file: what lies in the folder is another run's."""
    run, folder = trainer.run, trainer.folder
    model, precision = trainer.deployed, trainer.precision
    best, last = (str(folder / name) if run.config.save else None for name in (BEST, LAST))
    which = f"last weights (epoch {trainer.at.epoch})"
    if best is not None:
        model, meta = restore(Path(best))
        model = model.to(run.device)
        precision = Precision(meta.precision, run.device.type, "as it was chosen")
        which = f"best weights (epoch {meta.epoch})"
    evaluation = trainer.evaluate(model, precision)
    metrics_table(trainer.log, evaluation, f"{run.dataset.name}, {which}")
    results = write_results(trainer, evaluation)
    if run.config.plots:
        write_plots(folder, run, evaluation)
    return results | {"folder": str(folder), "best": best, "last": last}
