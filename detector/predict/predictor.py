"""A detector on frames: the same letterbox, head and postprocessing as in validation.

Frames are taken in batches as they come and results are returned one by one, so memory does not
grow with the length of a video.  What the model sees of a frame are its views: the whole frame, or
its tiles, whose detections are joined.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

import numpy as np
import torch

from ...datasets.batches.by_shape import runs_of_one_shape
from ...datasets.images.image import letterbox
from ...datasets.images.input_size import InputSize
from ...datasets.images.tiling import Rectangle, Tiling
from ...datasets.nouns import Letterbox
from ...files.counted import counted
from ..evaluate.joining import join
from ..evaluate.postprocess import Detections, best_detections, branches_for, postprocess
from ..models.detector_like import DetectorLike, ForwardOptions, fitting_size
from ..models.predictions import Predictions
from ..options.detect import DetectOptions
from ..run.device import synchronize
from .results import Results
from .sources import Frame


@dataclass(frozen=True)
class View:
    """What the model sees at once: a frame, or a tile of one.  image: [h,w,3] uint8 RGB, the pixels
    of ``place``."""

    image: np.ndarray
    place: Rectangle

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class Seen:
    """What was found in a view.  detections: in pixels of the frame.  best: the highest score
    where there are none.  speed: ms for each stage."""

    detections: Detections
    best: float
    speed: dict[str, float]


class Predictor:
    """Runs a detector on frames.

    model: moved to the device of ``forward`` and put in evaluation mode.  class_names: by class id.
    image_size: a side, (height, width) or an InputSize: multiples of the largest stride.
    batch: images per step, or tiles.  tiling: of the frames; None looks at whole frames.
    Raises ValueError for an impossible image_size, class, batch or list of names, BranchError if
    the model lacks the branch that ``detect.nms`` reads.
    """

    def __init__(
        self,
        model: DetectorLike,
        class_names: Sequence[str],
        image_size: int | tuple[int, int] | InputSize,
        detect: DetectOptions,
        forward: ForwardOptions,
        batch: int = 1,
        tiling: Tiling | None = None,
    ) -> None:
        self.names = dict(enumerate(class_names))
        self.input = InputSize.of(image_size)
        self.detect = detect
        self.forward = forward
        self.batch = batch
        self.tiling = tiling
        self._check(model)
        self.branches = branches_for(detect.nms, model.branches)
        self.model: DetectorLike = model.to(forward.device).eval()
        self.model.to(memory_format=forward.memory_format)

    def stream(self, source: Iterable[Frame]) -> Iterator[Results]:
        """One Results per frame, in order: ``batch`` frames at a time, or one with its tiles."""
        frames = iter(source)
        while chunk := list(islice(frames, 1 if self.tiling else self.batch)):
            yield from self._predict(chunk)

    def _check(self, model: DetectorLike) -> None:
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}: expected 1 or more")
        stride = model.max_stride
        for side in self.input.whole:
            near = max(stride, fitting_size(side, stride))
            if side != near:
                raise ValueError(
                    f"image_size is {side}: expected a multiple of {stride}, such as {near}"
                )
        known = len(self.names)
        if known != model.num_classes:
            classes = counted(model.num_classes, "class")
            raise ValueError(f"{counted(known, 'class name')} for a model of {classes}")
        unknown = [number for number in self.detect.classes or () if not 0 <= number < known]
        if unknown:
            raise ValueError(f"classes has {unknown[0]}: this model has classes 0 to {known - 1}")

    def _predict(self, frames: list[Frame]) -> list[Results]:
        views = [self._views(frame.image) for frame in frames]
        every = [view for each in views for view in each]
        steps = range(0, len(every), self.batch)
        seen = iter([one for at in steps for one in self._step(every[at : at + self.batch])])
        return [
            self._joined(frame, each, list(islice(seen, len(each))))
            for frame, each in zip(frames, views, strict=True)
        ]

    def _views(self, image: np.ndarray) -> list[View]:
        """The tiles of a frame, or the frame itself."""
        height, width = image.shape[:2]
        tiles = self.tiling.of((height, width)) if self.tiling else [(0, 0, width, height)]
        return [View(image[y0:y1, x0:x1], (x0, y0, x1, y1)) for x0, y0, x1, y1 in tiles]

    def _joined(self, frame: Frame, views: Sequence[View], seen: Sequence[Seen]) -> Results:
        """What was found in the views of a frame as its Results."""
        size = (frame.image.shape[0], frame.image.shape[1])
        start = time.perf_counter()
        found = join([one.detections for one in seen], [view.place for view in views], size)
        speed = {name: sum(one.speed[name] for one in seen) for name in seen[0].speed}
        speed["postprocess"] += (time.perf_counter() - start) * 1000
        best = max(one.best for one in seen)
        return Results(frame, found, self.names, speed, None if len(found) else best)

    def _step(self, views: Sequence[View]) -> Iterator[Seen]:
        """Run the model on views, those whose inputs have one shape at once."""
        shapes = [self.input.shape(view.size) for view in views]
        for start, stop in runs_of_one_shape(shapes):
            yield from self._look(views[start:stop], shapes[start])

    def _look(self, views: Sequence[View], shape: tuple[int, int]) -> list[Seen]:
        """Run the model on views; shape: (height, width) of their inputs."""
        start = time.perf_counter()
        align, whole = self.model.letterbox, self.input.whole
        fitted = [letterbox(view.image, whole, align=align, shape=shape) for view in views]
        images = self._to_device([image for image, _ in fitted])  # [B,3,H,W] uint8
        prepared = self._now()
        outputs = self._forward(images)
        inferred = self._now()
        boxes = [box for _, box in fitted]
        near: list[float] = []  # of each view, where one has no detection
        with torch.inference_mode():
            detections = _to_original(postprocess(outputs, self.detect), boxes, views)
            if not all(map(len, detections)):
                best = _to_original(best_detections(outputs, self.detect), boxes, views)
                near = [each.scores[0].item() if len(each) else 0.0 for each in best]
        marks = (start, prepared, inferred, time.perf_counter())
        speed = _milliseconds(marks, len(views))
        return [
            Seen(each.cpu(), score or 0.0, speed) for each, score in zip_longest(detections, near)
        ]

    def _to_device(self, images: list[np.ndarray]) -> torch.Tensor:
        """[H,W,3] images as [B,3,H,W] uint8 on the device, in the chosen memory layout."""
        batch = torch.from_numpy(np.stack(images)).to(self.forward.device)  # [B,H,W,3]
        return batch.permute(0, 3, 1, 2).contiguous(memory_format=self.forward.memory_format)

    @torch.inference_mode()
    def _forward(self, images: torch.Tensor) -> dict[str, Predictions]:
        with self.forward.autocast():
            return self.model(images, branches=self.branches)

    def _now(self) -> float:
        """The time, once the device has finished its queue."""
        synchronize(self.forward.device)
        return time.perf_counter()


def _to_original(
    found: Sequence[Detections], letterboxes: Sequence[Letterbox], views: Sequence[View]
) -> list[Detections]:
    """Detections in the pixels of their frames."""
    return [
        each.to_original(box, view.size).moved(*view.place[:2])
        for each, box, view in zip(found, letterboxes, views, strict=True)
    ]


def _milliseconds(marks: tuple[float, float, float, float], images: int) -> dict[str, float]:
    """ms per image from the four clock readings of a batch."""
    names = ("preprocess", "inference", "postprocess")
    return {
        name: (end - begin) * 1000 / images
        for name, begin, end in zip(names, marks[:-1], marks[1:], strict=True)
    }
