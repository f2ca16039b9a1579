"""A detector on frames: the same letterbox, head and postprocessing as in validation.

Frames are taken in batches as they come and results are returned one by one, so memory does not
grow with the length of a video.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, zip_longest

import numpy as np
import torch

from ...datasets.images.image import letterbox
from ...datasets.nouns import Letterbox
from ...files.counted import counted
from ..evaluate.postprocess import Detections, best_detections, branches_for, postprocess
from ..models.detector_like import DetectorLike, ForwardOptions, fitting_size
from ..models.predictions import Predictions
from ..options.detect import DetectOptions
from ..run.device import synchronize
from .results import Results
from .sources import Frame


class Predictor:
    """Runs a detector on frames.

    model: moved to the device of ``forward`` and put in evaluation mode.  class_names: by class id.
    image_size: side of the square input, or (height, width): multiples of the largest stride.
    batch: images per step.
    Raises ValueError for an impossible image_size, class, batch or list of names, BranchError if
    the model lacks the branch that ``detect.nms`` reads.
    """

    def __init__(
        self,
        model: DetectorLike,
        class_names: Sequence[str],
        image_size: int | tuple[int, int],
        detect: DetectOptions,
        forward: ForwardOptions,
        batch: int = 1,
    ) -> None:
        self.names = dict(enumerate(class_names))
        self.image_size = image_size
        self.detect = detect
        self.forward = forward
        self.batch = batch
        self._check(model)
        self.branches = branches_for(detect.nms, model.branches)
        self.model: DetectorLike = model.to(forward.device).eval()
        self.model.to(memory_format=forward.memory_format)

    def stream(self, source: Iterable[Frame]) -> Iterator[Results]:
        """One Results per frame, in order, ``batch`` frames at a time."""
        frames = iter(source)
        while chunk := list(islice(frames, self.batch)):
            yield from self._predict(chunk)

    def _check(self, model: DetectorLike) -> None:
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}: expected 1 or more")
        stride = model.max_stride
        size = self.image_size
        for side in (size,) if isinstance(size, int) else size:
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
        start = time.perf_counter()
        align = self.model.letterbox
        fitted = [letterbox(frame.image, self.image_size, align=align) for frame in frames]
        images = self._to_device([image for image, _ in fitted])  # [B,3,S,S] uint8
        prepared = self._now()
        outputs = self._forward(images)
        inferred = self._now()
        boxes = [box for _, box in fitted]
        near: list[float] = []  # of each frame, where one has no detection
        with torch.inference_mode():
            detections = _to_original(postprocess(outputs, self.detect), boxes, frames)
            if not all(map(len, detections)):
                best = _to_original(best_detections(outputs, self.detect), boxes, frames)
                near = [each.scores[0].item() if len(each) else 0.0 for each in best]
        marks = (start, prepared, inferred, time.perf_counter())
        speed = _milliseconds(marks, len(frames))
        return [
            Results(frame, each.cpu(), self.names, speed, score if not len(each) else None)
            for frame, each, score in zip_longest(frames, detections, near)
        ]

    def _to_device(self, images: list[np.ndarray]) -> torch.Tensor:
        """[S,S,3] images as [B,3,S,S] uint8 on the device, in the chosen memory layout."""
        batch = torch.from_numpy(np.stack(images)).to(self.forward.device)  # [B,S,S,3]
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
    found: Sequence[Detections], letterboxes: Sequence[Letterbox], frames: Sequence[Frame]
) -> list[Detections]:
    """Detections in the pixels of their frames."""
    return [
        each.to_original(box, (frame.image.shape[0], frame.image.shape[1]))
        for each, box, frame in zip(found, letterboxes, frames, strict=True)
    ]


def _milliseconds(marks: tuple[float, float, float, float], images: int) -> dict[str, float]:
    """ms per image from the four clock readings of a batch."""
    names = ("preprocess", "inference", "postprocess")
    return {
        name: (end - begin) * 1000 / images
        for name, begin, end in zip(names, marks[:-1], marks[1:], strict=True)
    }
