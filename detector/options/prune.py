"""The options of ``det prune``: those of the pruning, and those of ``det train`` for the trainings
between its steps."""

# fmt: off: one option per paragraph
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .fields import option
from .train import TrainConfig


@dataclass(frozen=True, kw_only=True)
class PruneConfig(TrainConfig):
    """det prune: remove channels from a trained detector, and train what is left."""

    model: str | None = option(  # type: ignore[assignment]
        None, "Run", "Checkpoint to prune, or a run folder. Default: the best weights of the "
        "newest run in project=.")
    keep: float = option(
        0.5, "Pruning", "Share of the cost (see of=) that the pruned detector keeps, more than 0 "
        "and less than 1.", low=0.0, high=1.0)
    of: str = option(
        "macs", "Pruning", "What keep= is a share of: macs (multiply-adds), parameters, or latency "
        "(measured with ONNX Runtime on this machine).", choices=("macs", "parameters", "latency"))
    criterion: str = option(
        "taylor", "Pruning", "What says how much a channel matters: taylor (first-order change of "
        "the loss), magnitude (of its weights), bn (gain of its batch norm). random and opposite "
        "(the most important first) are for comparison.",
        choices=("taylor", "magnitude", "bn", "random", "opposite"))
    steps: int = option(
        1, "Pruning", "Steps in which channels are removed, with a training after each.", low=1)
    samples: int = option(
        32, "Pruning", "Training images on which channels are judged.", low=1)
    epochs: int = option(
        30, "Run", "Epochs of the training after each step. 0 trains nothing.", low=0)
    without: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("dry_run", "folds", "seeds"), "it belongs to det train"),
        **dict.fromkeys(("keep_classes", "replay", "single_cls"), "pruning keeps the classes"),
        "pretrained": "model= is pruned",
        "qat": "quantize after pruning: det train qat=int8 with the pruned weights",
    }
    resume: bool | str | None = option(
        None, "Run", "Go on with a pruning that was stopped: its run folder, or True for the "
        "newest one in project=.")


PRUNING = ("keep", "of", "criterion", "steps", "samples", "resume")
"""Options of the pruning itself, which its trainings do not have."""
