"""The table and the plots of one evaluation."""

from __future__ import annotations

from pathlib import Path

from ...files.counted import counted
from ..run.log import Log
from . import pictures, plots
from .evaluator import Evaluation
from .hardest import write_hardest
from .metrics import ClassMetrics


def metrics_table(log: Log, evaluation: Evaluation, title: str) -> None:
    """Log the final table: all classes, then each class with ground truth."""
    metrics = evaluation.metrics
    columns = ("class", "images", "boxes", "precision", "recall", "F1", "AP50", "AP")
    total = (metrics.num_images, metrics.num_boxes, metrics.precision, metrics.recall)
    rows = [
        ClassMetrics("all", *total, metrics.f1, metrics.map_50, metrics.map),
        *(row for row in metrics.per_class if row.boxes),
    ]
    texts = [
        [f"{value:.3f}" if isinstance(value, float) else str(value) for value in row]
        for row in rows
    ]
    log.table(title, columns, texts)
    if metrics.crowded:
        log.warn(
            f"{counted(metrics.crowded, 'image')} with more than 100 boxes of a class: AP is "
            "COCO's and counts the best 100 detections per image and class; AP of all detections "
            f"(map_all) is {metrics.map_all:.3f}"
        )
    speed = ", ".join(f"{name} {ms:.1f}" for name, ms in evaluation.speed.items())
    log.info(f"ms per image: {speed}")


def evaluation_plots(folder: Path, evaluation: Evaluation) -> None:
    """Curves, confusion matrix, and the first, the worst and the hardest images with truth beside
    detections."""
    names = evaluation.metrics.class_names
    plots.plot_pr_curve(evaluation.metrics, folder / "pr_curve.png")
    plots.plot_confidence_curves(evaluation.metrics, folder / "confidence_curves.png")
    plots.plot_confusion_matrix(evaluation.metrics, names, folder / "confusion_matrix.png")
    pictures.plot_detections(evaluation, names, folder / "val_batch.jpg")
    pictures.plot_worst(evaluation, names, folder / "val_worst.jpg")
    write_hardest(folder, evaluation)
