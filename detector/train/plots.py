"""Observer: pictures of the data, the course of the run and what the best weights detect."""

from __future__ import annotations

from ..evaluate import pictures, plots
from ..evaluate.report import evaluation_plots
from ..run.observer import Finished, Observer
from .assemble import Run


class Plots(Observer):
    """Draws into the run folder when the run has finished."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def finished(self, end: Finished) -> None:
        run, folder, names = self.run, end.folder, self.run.class_names
        first = next(iter(run.train_loader.epoch(0)))
        pictures.plot_batch(first, names, folder / "train_batch.jpg")
        pictures.plot_labels(run.train.records, names, folder / "labels.png")
        plots.plot_results(folder / "results.csv", folder / "results.png")
        if end.evaluation is not None:
            evaluation_plots(folder, end.evaluation)
