"""Observer: pictures of the data, the course of the run and what the best weights detect."""

from __future__ import annotations

from ..evaluate import label_plots, pictures, plots
from ..evaluate.report import evaluation_plots
from ..run.observer import Finished, Observer, Started
from .assemble import Run


class Plots(Observer):
    """Draws into the run folder: the data before the first step, the results at the end."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def started(self, run: Started) -> None:
        if run.epoch == 0:  # a run that continues has them
            names = self.run.class_names
            label_plots.plot_labels(self.run.train.records, names, run.folder / "labels.png")
            batches = self.run.train_loader.epoch(0)
            pictures.plot_batch(batches, names, run.folder / "train_batch.jpg")

    def finished(self, end: Finished) -> None:
        plots.plot_results(end.folder / "results.csv", end.folder / "results.png")
        if end.evaluation is not None:
            evaluation_plots(end.folder, end.evaluation)
