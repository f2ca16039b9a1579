"""Ways to break det, one function at a time, for gate_mutations.py.

Each replaces something that is looked up when det runs, so no file is changed and the process that
did it is spoilt for anything else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from yolodet.datasets import boxes as box_notations
from yolodet.datasets.augment import transforms
from yolodet.datasets.batches import dataset
from yolodet.detector.evaluate import postprocess
from yolodet.detector.losses import assign, detection
from yolodet.detector.models import detector
from yolodet.detector.models.predictions import ONE_TO_MANY, ONE_TO_ONE
from yolodet.detector.train import ema, optim, schedule, step

Change = Callable[[], None]
MUTATIONS: dict[str, tuple[str, Change]] = {}
"""Name -> what is broken, and how."""


def breaks(words: str) -> Callable[[Change], Change]:
    """Enter a change in MUTATIONS under its name."""

    def enter(change: Change) -> Change:
        MUTATIONS[change.__name__.replace("_", "-")] = (words, change)
        return change

    return enter


def put(old: Any, new: Any) -> None:
    """Every name of det that stands for ``old`` stands for ``new``."""
    modules = [module for name, module in sys.modules.items() if name.startswith("yolodet")]
    places = [(m, name) for m in modules for name, value in vars(m).items() if value is old]
    assert places, old
    for module, name in places:
        setattr(module, name, new)


def wrap(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace what a class or module has under ``name`` by what ``make`` makes of it."""
    setattr(owner, name, make(getattr(owner, name)))


# ---------------------------------------------------------------- losses


@breaks("the box loss has the wrong sign")
def box_loss_inverted() -> None:
    wrap(detection, "matched_ciou", lambda right: lambda found, true: -right(found, true))


@breaks("the box loss sends no gradients")
def box_loss_without_gradients() -> None:
    wrap(detection, "matched_ciou", lambda right: lambda found, true: right(found.detach(), true))


@breaks("the class loss of positives counts a hundredth")
def class_loss_of_positives_weak() -> None:
    wrap(detection, "assign", lambda right: lambda *a: [weaker(found) for found in right(*a)])


def weaker(assignment: assign.Assignment) -> assign.Assignment:
    return replace(assignment, target=assignment.target * 0.01)


@breaks("the class target is the other class")
def labels_swapped() -> None:
    change_batches(lambda b: replace(b, labels=1 - b.labels))


@breaks("boxes and labels of a batch are of the image before")
def boxes_of_another_image() -> None:
    change_batches(lambda b: replace(b, batch_index=(b.batch_index + 1) % len(b)))


@breaks("x and y of the true boxes change places in the distance loss")
def distances_transposed() -> None:
    wrap(
        detection.DetectionLoss, "_distance_loss",
        lambda right: staticmethod(lambda p, a, t, batch: right(p, a, t[:, [1, 0, 3, 2]], batch)),
    )  # fmt: skip


def change_batches(change: Callable[[Any], Any]) -> None:
    """The criterion sees other batches than were loaded."""
    wrap(
        detection.DetectionLoss, "__call__",
        lambda right: lambda self, outputs, batch: right(self, outputs, change(batch)),
    )  # fmt: skip


@breaks("the one-to-one head has no share in the loss")
def one_to_one_head_not_taught() -> None:
    share(ONE_TO_ONE, 0.0)


@breaks("the one-to-many head has no share in the loss")
def one_to_many_head_not_taught() -> None:
    share(ONE_TO_MANY, 0.0)


@breaks("gradients of the one-to-one head do not reach the backbone")
def one_to_one_head_detached() -> None:
    def view(self: Any, name: str, features: Any) -> Any:
        cut = self.training and name == ONE_TO_ONE
        return tuple(x.detach() for x in features) if cut else features

    wrap(detector.Detector, "_features_of", lambda right: view)


def share(branch: str, value: float) -> None:
    wrap(
        detection.DetectionLoss, "branch_weights",
        lambda right: lambda *a: {**right(*a), branch: value},
    )  # fmt: skip


@breaks("the share of the one-to-one head stays at its start of 0.2")
def progress_never_told() -> None:
    def weights(self: Any, branches: Any) -> Any:
        self.progress = 0.0
        return right(self, branches)

    right = detection.DetectionLoss.branch_weights
    wrap(detection.DetectionLoss, "branch_weights", lambda right: weights)


# ---------------------------------------------------------------- assignment


@breaks("the assigner picks points of a box at random")
def assigner_at_random() -> None:
    right = assign.top_k_per_group
    put(right, lambda group, value, k, n: right(group, torch.rand_like(value), k, n))


@breaks("the assigner ranks by score alone, whatever the overlap")
def assigner_ignores_overlap() -> None:
    def without_overlap(right: Callable[..., Any]) -> Callable[..., Any]:
        return lambda assigners, *a: right([replace(each, beta=0.0) for each in assigners], *a)

    wrap(detection, "assign", without_overlap)


@breaks("the one-to-one head keeps all 7 points of a box")
def one_to_one_head_keeps_many() -> None:
    wrap(detection, "Assigner", lambda right: lambda topk=10, keep=None: right(topk=topk))


@breaks("a point between two boxes answers for both")
def conflicts_not_settled() -> None:
    put(assign.resolve_conflicts, lambda slot, overlap, there: there)


# ---------------------------------------------------------------- images and boxes


def change_samples(change: Callable[[Any, tuple[int, int, int]], Any], *, training: bool) -> None:
    """Samples of training (or validation) are changed after they are drawn."""

    def make(right: Any) -> Any:
        def draw(self: Any, key: tuple[int, int, int], output: np.ndarray) -> Any:
            sample = right(self, key, output)
            return change(sample, key) if (self.augment is not None) == training else sample

        return draw

    wrap(dataset.DetectionDataset, "draw", make)


@breaks("the label reader takes the center of a box for its corner")
def center_read_as_corner() -> None:
    right = box_notations.xywhn_to_xyxy

    def read(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return right(boxes + np.concatenate((boxes[:, 2:] / 2, boxes[:, 2:] * 0), 1), size)

    put(right, read)


@breaks("half of the training images are flipped without their boxes")
def flip_without_boxes() -> None:
    def flip(sample: Any, key: tuple[int, int, int]) -> Any:
        if sum(key) % 2:
            sample.image[:] = sample.image[:, ::-1].copy()
        return sample

    change_samples(flip, training=True)


@breaks("boxes of all tiles of a mosaic are moved with the first")
def mosaic_boxes_not_moved() -> None:
    right = transforms.warp_boxes

    def warp(boxes: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        matrices = matrices.copy()
        matrices[:, :, 2] = matrices[:1, :, 2]
        return right(boxes, matrices)

    put(right, warp)


@breaks("training boxes lie an eighth of the image too far right")
def boxes_shifted() -> None:
    change_samples(
        lambda s, key: replace(s, boxes=s.boxes + np.float32([20, 0, 20, 0])), training=True
    )


@breaks("red and blue change places in validation")
def channels_swapped_in_validation() -> None:
    def swap(sample: Any, key: tuple[int, int, int]) -> Any:
        sample.image[:] = sample.image[..., ::-1].copy()
        return sample

    change_samples(swap, training=False)


@breaks("the letterbox is not undone in validation")
def letterbox_not_undone() -> None:
    wrap(postprocess.Detections, "to_original", lambda right: lambda self, letterbox, size: self)


@breaks("every epoch repeats the random numbers of the first")
def augmentation_never_changes() -> None:
    wrap(
        dataset.DetectionDataset, "plan",
        lambda right: lambda self, key: right(self, (0, *key[1:])),
    )  # fmt: skip


@breaks("mosaic goes on to the end")
def mosaic_never_closes() -> None:
    put(schedule.close_epoch, lambda run, close_mosaic: run.epochs)


# ---------------------------------------------------------------- average, optimizer, schedule


@breaks("the average is never updated")
def average_never_updated() -> None:
    wrap(ema.ModelEma, "update", lambda right: lambda self, model: None)


@breaks("the average is the last weights (decay 0)")
def average_forgets_all() -> None:
    put(schedule.ema_constants, lambda run, decay: (0.0, 1.0))


@breaks("the average reaches back 10 000 steps (decay 0.9999 at once)")
def average_too_long() -> None:
    put(schedule.ema_constants, lambda run, decay: (0.9999, 1.0))


@breaks("the average has the batch-norm statistics of the start")
def average_without_statistics() -> None:
    put(ema._tensors, lambda model: list(model.parameters()))


@breaks("batch-norm statistics do not move in training")
def statistics_never_move() -> None:
    put(schedule.batch_norm_momentum, lambda run: 1e-6)


@breaks("gradients are not cleared after a step")
def gradients_not_cleared() -> None:
    wrap(step.TrainStep, "drop_gradients", lambda right: lambda self: setattr(self, "_kept", False))


@breaks("the learning rate is a hundredth")
def learning_rate_too_small() -> None:
    right = optim.set_learning_rate
    put(right, lambda optimizer, factor: right(optimizer, factor / 100))


@breaks("the learning rate is ten times too large")
def learning_rate_too_large() -> None:
    right = optim.set_learning_rate
    put(right, lambda optimizer, factor: right(optimizer, factor * 10))


@breaks("the learning rate never falls")
def learning_rate_never_falls() -> None:
    right = schedule.lr_factor
    put(right, lambda at, **words: right(min(at, words["warmup"]), **words))


@breaks("the weight decay is a hundred times too large")
def weight_decay_too_large() -> None:
    optim.DEFAULTS["MuSGD"]["weight_decay"] *= 100


@breaks("no step is orthogonalized")
def muon_off() -> None:
    wrap(optim, "MUON_SHARE", lambda right: 0.0)
