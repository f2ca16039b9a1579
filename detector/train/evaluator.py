"""What a run measures after each epoch: COCO's metrics, unless the caller gives another evaluator.

The score decides which epoch is best and when patience ends; the other numbers are reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from ...files.counted import counted
from ..evaluate.class_names import GroundTruth, class_numbers
from ..evaluate.confidence import propose
from ..evaluate.evaluator import Evaluation, detect_images, join_detected
from ..models.detector import Detector
from ..models.detector_like import ForwardOptions
from ..options.train import TrainConfig
from ..precision.precision import Precision
from ..run.log import Log
from .assemble import Run
from .best import name_of, score_of


@dataclass(frozen=True)
class Measured:
    """score: higher is better; nan when there is nothing to measure with.  columns: numbers of the
    evaluator's ``columns``.  losses: parts of the loss on the validation split by name, for
    results.csv; empty where they are not measured.  metrics: plain data for the checkpoint and
    results.json.  evaluation: for the table per class and the pictures; None draws none."""

    score: float
    columns: Mapping[str, float]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    losses: Mapping[str, float] = field(default_factory=dict)


class Evaluator(Protocol):
    """Measures a model.  name: of its score, in messages.  columns: of results.csv, written as
    ``metrics/...``.  titles: short names for the terminal -> column."""

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> Sequence[str]: ...

    @property
    def titles(self) -> Mapping[str, str]: ...

    def __call__(self, model: Detector, precision: Precision, run: Run, log: Log) -> Measured:
        """Measure ``model`` in ``precision``; see ``run.val_loader`` and ``run.val.records``.

        With several ranks each calls this, with its share of the batches in ``run.val_loader``,
        and rank 0's answer counts: gather there with ``run.ranks.gather_at_first``.
        """


class CocoEvaluator:
    """AP and its relatives on the validation split, in the detection options of the run.

    best: which of them is the score, as in the option ``best=``.  ``map`` is AP, and AP of all
    detections where an image has more than 100 boxes of a class.
    """

    columns = ("map", "map_50", "map_75", "precision", "recall")
    titles: Mapping[str, str] = MappingProxyType(
        {"P": "precision", "R": "recall", "AP50": "map_50", "AP": "map"}
    )

    def __init__(self, best: str = "map") -> None:
        self.best = best

    @property
    def name(self) -> str:
        return name_of(self.best)

    def __call__(self, model: Detector, precision: Precision, run: Run, log: Log) -> Measured:
        config, loader = run.config, run.val_loader
        criterion = run.criterion.alone()
        truth = GroundTruth(run.val.records, run.class_names, tiles=loader.dataset.tiles)
        with log.progress("validating", len(loader)) as update:
            own = detect_images(
                model,
                loader,
                truth,
                config.detect_options(0.001, _measured(config, run)),
                ForwardOptions(run.device, precision.autocast, config.channels_last),
                update,
                lambda outputs, batch: criterion(outputs, batch).parts,
            )
        parts = run.ranks.gather_at_first(own)
        if not parts:  # rank 0 has them
            return Measured(math.nan, {})
        whole = join_detected(parts).joined(truth)
        evaluation = whole.measure()
        metrics = evaluation.metrics
        if metrics.crowded and self.best == "map":
            crowded = counted(metrics.crowded, "image")
            log.once(
                [f"{crowded} to validate with more than 100 boxes of a class: the best weights are "
                 "those with the highest AP of all detections (map_all)"]
            )  # fmt: skip
        columns = {name: getattr(metrics, name) for name in self.columns}
        score = score_of(self.best, metrics)
        told = metrics.to_dict() | {"confidence": propose(metrics)}
        return Measured(score, columns, told, evaluation, whole.mean_losses())


def _measured(config: TrainConfig, run: Run) -> tuple[int, ...] | None:
    """The classes of ``classes=`` that are measured; None for all."""
    if config.single_cls:  # the labels have been chosen, and all of them are class 0
        return None
    return class_numbers(config.classes, run.class_names)
