"""Measure a model on a data set: one function for training, `det val` and `det export`.

Boxes go through the inverse letterbox into the pixels of the original image.  The ground truth
comes from the records as annotated, not from the network's input.  Times are taken with the device
synchronized.  Errors are not caught: a validation that fails stops the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ...datasets.nouns import Batch
from ...files.errors import DetError
from ..models.detector_like import DetectorLike, ForwardOptions
from ..models.predictions import Predictions
from ..options.detect import DetectOptions
from ..run.device import synchronize
from .class_names import GroundTruth
from .joining import join
from .labels import write_label_files
from .metrics import DetectionCollector, Metrics
from .postprocess import Detections, branches_for, postprocess

MAX_PICTURES = 12
"""Images kept with their boxes for the plot of ground truth beside detections."""


class EvaluationError(DetError):
    """Nothing could be measured."""


class Criterion(Protocol):
    """The loss parts of a batch by name, as DetectionLoss gives them."""

    def __call__(
        self, outputs: Mapping[str, Predictions], batch: Batch, /
    ) -> Mapping[str, torch.Tensor]: ...


class BatchSource(Protocol):
    """A loader of letterboxed images, in order."""

    def epoch(self, epoch: int) -> Iterable[Batch]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Picture:
    """One measured image, to be plotted.

    image: [H,W,3] uint8 RGB, the network's input.  boxes: [N,4] float32 xyxy, ground truth in its
    pixels.  labels: [N] int64.  detections: in its pixels too.  name: of the file.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    detections: Detections
    name: str = ""


@dataclass(frozen=True)
class Evaluation:
    """The result of a measurement.

    speed: ms per image: ``preprocess`` (waiting for the loader), ``inference`` (copy to the device
    and forward pass), ``postprocess`` (to Detections on the CPU).  The first batch is left out if
    there are several, because it includes the warm-up.
    collector: everything that the metrics were computed from; image ids index the records.
    pictures: the first images.  paths: of all measured images, in the collector's order.
    """

    metrics: Metrics
    speed: dict[str, float]
    collector: DetectionCollector
    pictures: list[Picture]
    paths: list[Path] = field(default_factory=list)

    def write_labels(self, folder: Path) -> list[Path]:
        """YOLO label files with scores, one per image; see ``write_label_files``."""
        return write_label_files(self.collector, self.paths, folder)


@dataclass(frozen=True)
class Detected:
    """What a model detected in the images of a loader, before anything is measured.

    indices, paths: of the images that were measured whole, in the collector's order; empty where
    tiles are seen.  pictures: by index.  speed: see
    Evaluation.  losses: loss parts of each batch, by the index of its first image.  in_tiles: of
    each tile, in pixels of its image, until they are joined; then the collector is empty.
    """

    collector: DetectionCollector
    indices: list[int]
    paths: list[Path]
    pictures: dict[int, Picture]
    speed: dict[str, float]
    losses: dict[int, dict[str, float]] = field(default_factory=dict)
    in_tiles: dict[int, Detections] = field(default_factory=dict)

    def joined(self, truth: GroundTruth) -> Detected:
        """The same for whole images; itself where whole images were seen.  An image of which a tile
        could not be read counts neither way."""
        tiles, start = truth.tiles, time.perf_counter()
        if tiles is None:
            return self
        collector, indices = DetectionCollector(truth.class_names), []
        for owner, record in enumerate(truth.records):
            numbers = tiles.of_image(owner)
            if all(number in self.in_tiles for number in numbers):
                parts = [self.in_tiles[number] for number in numbers]
                places = [tiles.place(number) for number in numbers]
                collector.add(owner, record, join(parts, places, record.size))
                indices.append(owner)
        images = max(len(indices), 1)
        speed = {name: ms * len(self.in_tiles) / images for name, ms in self.speed.items()}
        speed["postprocess"] += 1000 * (time.perf_counter() - start) / images
        paths = [truth.records[index].path for index in indices]
        return Detected(collector, indices, paths, self.pictures, speed, self.losses)

    def mean_losses(self) -> dict[str, float]:
        """Mean of each loss part over the batches; empty where no criterion was given."""
        batches = [self.losses[index] for index in sorted(self.losses)]
        names = batches[0] if batches else ()
        return {name: sum(parts[name] for parts in batches) / len(batches) for name in names}

    def measure(self) -> Evaluation:
        """Raises EvaluationError if there is no image."""
        if not self.indices:
            raise EvaluationError(
                "validation: none of the images could be measured; "
                "det data check says what is wrong with them"
            )
        pictures = [self.pictures[index] for index in sorted(self.pictures)]
        metrics = self.collector.compute()
        return Evaluation(metrics, self.speed, self.collector, pictures, self.paths)


def join_detected(parts: Sequence[Detected]) -> Detected:
    """The parts of all ranks in the order of their indices, as if one process had detected them in
    that order.  The speed is that of the first."""
    images = sorted(pair for part in parts for pair in zip(part.indices, part.paths, strict=True))
    return Detected(
        DetectionCollector.joined([part.collector for part in parts]),
        [index for index, _ in images],
        [path for _, path in images],
        {index: picture for part in parts for index, picture in part.pictures.items()},
        parts[0].speed,
        {index: losses for part in parts for index, losses in part.losses.items()},
        {index: found for part in parts for index, found in part.in_tiles.items()},
    )


def evaluate(
    model: DetectorLike,
    loader: BatchSource,
    truth: GroundTruth,
    detect: DetectOptions,
    forward: ForwardOptions,
    on_progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure ``model`` on the images of ``loader``; see ``detect_images``.

    Raises EvaluationError if no image came, BranchError if the model lacks the branch.
    """
    found = detect_images(model, loader, truth, detect, forward, on_progress)
    return join_detected([found]).joined(truth).measure()


def detect_images(
    model: DetectorLike,
    loader: BatchSource,
    truth: GroundTruth,
    detect: DetectOptions,
    forward: ForwardOptions,
    on_progress: Callable[[int, int], None] | None = None,
    criterion: Criterion | None = None,
) -> Detected:
    """Collect the detections of ``model`` in the images of ``loader``, with the ground truth.

    ``Batch.indices`` say which record of ``truth`` an image is, or which of its tiles.
    on_progress: called with batches done and in all.  criterion: takes the losses from the same
    forward pass, which is why it is a seventh parameter; its time counts nowhere in ``speed``.  The
    model is in evaluation mode meanwhile; afterwards, also after an error, every module has its own
    mode again.
    Raises BranchError if the model lacks the branch.
    """
    branches = branches_for(detect.nms, model.branches)
    collector, clock = DetectionCollector(truth.class_names), _Clock(forward.device)
    indices: list[int] = []
    paths: list[Path] = []
    pictures: dict[int, Picture] = {}
    losses: dict[int, dict[str, float]] = {}
    in_tiles: dict[int, Detections] = {}
    with torch.inference_mode(), _evaluation_mode(model):
        for done, batch in enumerate(clock.waiting(loader.epoch(0)), start=1):
            images = batch.images.to(forward.device, non_blocking=True)
            images = images.contiguous(memory_format=forward.memory_format)
            with forward.autocast():
                outputs = model(images, branches=branches)
            clock.stop("inference")
            found = postprocess(outputs, detect)
            clock.stop("postprocess", images=len(batch))
            if criterion is not None:
                parts = criterion(outputs, batch.to(forward.device))
                losses[batch.indices[0]] = {name: part.item() for name, part in parts.items()}
            if truth.single_cls:
                found = [detections.single_class() for detections in found]
            for index, detections in _in_original(batch, found):
                if truth.tiles is None:
                    record = truth.records[index]
                    collector.add(index, record, detections)
                    indices.append(index)
                    paths.append(record.path)
                else:
                    in_tiles[index] = detections.moved(*truth.tiles.place(index)[:2])
            pictures |= _pictures(batch, found)
            if on_progress is not None:
                on_progress(done, len(loader))
    return Detected(collector, indices, paths, pictures, clock.speed(), losses, in_tiles)


def _in_original(batch: Batch, found: Sequence[Detections]) -> Iterator[tuple[int, Detections]]:
    """Index and detections of the images of a batch, in original pixels; an image that is lost
    counts neither way."""
    images = zip(batch.indices, batch.original_sizes, batch.letterboxes, found, strict=True)
    for index, size, letterbox, detections in images:
        if letterbox is None:
            raise EvaluationError(
                f"{batch.paths[batch.indices.index(index)]}: the image is augmented, so boxes "
                "cannot be mapped back to the original; expected a loader of letterboxed images"
            )
        if index not in batch.lost:
            yield index, detections.to_original(letterbox, size)


def _pictures(batch: Batch, found: Sequence[Detections]) -> dict[int, Picture]:
    """Copies of the data set's first images with their boxes, by index."""
    kept = {}
    for i, index in enumerate(batch.indices):
        if index < MAX_PICTURES:
            image = batch.images[i].permute(1, 2, 0).cpu().numpy().copy()
            mine = batch.batch_index == i
            boxes, labels = batch.boxes[mine].cpu().numpy(), batch.labels[mine].cpu().numpy()
            kept[index] = Picture(image, boxes, labels, found[i], batch.paths[i].name)
    return kept


@contextmanager
def _evaluation_mode(model: DetectorLike) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class _Clock:
    """Milliseconds per stage, with the device synchronized at every reading."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._last = time.perf_counter()
        self._batch: dict[str, float] = {}
        self._batches: list[tuple[int, dict[str, float]]] = []

    def waiting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; the time to get each one counts as ``preprocess``."""
        iterator = iter(batches)
        while True:
            self._last = time.perf_counter()
            batch = next(iterator, None)
            if batch is None:
                return
            self.stop("preprocess")
            yield batch

    def stop(self, stage: str, images: int | None = None) -> None:
        """The time since the last reading was ``stage``; with ``images`` it ends a batch."""
        synchronize(self._device)
        now = time.perf_counter()
        self._batch[stage] = 1000 * (now - self._last)
        self._last = now
        if images is not None:
            self._batches.append((images, self._batch))
            self._batch = {}

    def speed(self) -> dict[str, float]:
        """ms per image, without the first batch if there are several."""
        counted = self._batches[1:] or self._batches
        images = max(sum(size for size, _ in counted), 1)
        stages = ("preprocess", "inference", "postprocess")
        return {stage: sum(times[stage] for _, times in counted) / images for stage in stages}
