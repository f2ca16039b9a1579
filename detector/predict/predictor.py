"""A detector, ready to be shown images: frames in, Results out.

The path is the one that validation measures: the same letterbox to a square, the same branch of
the head, the same postprocessing, boxes back in the pixels of the original image.  Frames are
taken in batches as they come and results handed out one by one, so memory does not grow with the
length of a video.

Left out: test-time augmentation, tiling of large images, tracking.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice

import numpy as np
import torch

from ...datasets.images.image import letterbox
from ..evaluate.postprocess import Detections, branches_for, postprocess
from ..models.finder import Finder, fitting_size
from ..models.predictions import Predictions
from ..run.device import synchronize
from .results import Result
from .sources import Frame


class Predictor:
    """Runs a detector on frames.

    model: a Detector, or what answers like one; it is moved to ``device`` and put in eval mode.
    class_names: by class id.
    image_size: side of the square input, or (height, width): multiples of the largest stride.
    nms, conf, iou, max_det, agnostic_nms: as in validation (``evaluate.postprocess``).
    classes: ids to look for, None for all; others do not count towards ``max_det``.
    autocast: makes the context of a forward pass, as ``Precision.autocast`` does; default fp32.
    channels_last: keep images and features in channels-last memory.  batch: images a step.
    Raises ValueError for an image_size, class, batch or list of names that can not be, BranchError
    (a ValueError) where the model lacks the branch that ``nms`` reads.
    """

    def __init__(
        self,
        model: Finder,
        class_names: Sequence[str],
        *,
        image_size: int | tuple[int, int],
        device: torch.device | str,
        nms: bool,
        conf: float,
        iou: float,
        max_det: int,
        agnostic_nms: bool,
        classes: set[int] | None = None,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        channels_last: bool = True,
        batch: int = 1,
    ) -> None:
        self.class_names = tuple(class_names)
        self.image_size = image_size
        self.device = torch.device(device)
        self.nms, self.conf, self.iou = nms, conf, iou
        self.max_det, self.agnostic_nms = max_det, agnostic_nms
        self.classes = None if classes is None else sorted(classes)
        self.autocast = autocast
        self.batch = batch
        self._check(model)
        self.branches = branches_for(nms, model.branches)
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model: Finder = model.to(self.device).to(memory_format=self._layout).eval()

    def stream(self, source: Iterable[Frame]) -> Iterator[Result]:
        """One Result a frame, in order, ``batch`` frames at a time."""
        frames = iter(source)
        while chunk := list(islice(frames, self.batch)):
            yield from self._predict(chunk)

    def _check(self, model: Finder) -> None:
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
        known = len(self.class_names)
        if known != model.num_classes:
            raise ValueError(f"{known} class names for a model of {model.num_classes} classes")
        unknown = [number for number in self.classes or () if not 0 <= number < known]
        if unknown:
            raise ValueError(f"classes has {unknown[0]}: this model knows 0 to {known - 1}")

    def _predict(self, frames: list[Frame]) -> list[Result]:
        start = time.perf_counter()
        align = self.model.letterbox
        fitted = [letterbox(frame.image, self.image_size, align=align) for frame in frames]
        images = self._to_device([image for image, _ in fitted])  # [B,3,S,S] uint8
        prepared = self._now()
        outputs = self._forward(images)
        inferred = self._now()
        found = self._postprocess(outputs)
        detections = [
            each.to_original(box, (frame.image.shape[0], frame.image.shape[1]))
            for each, (_, box), frame in zip(found, fitted, frames, strict=True)
        ]
        marks = (start, prepared, inferred, time.perf_counter())
        speed = _milliseconds(marks, len(frames))
        return [
            self._result(frame, each, speed)
            for frame, each in zip(frames, detections, strict=True)
        ]

    def _to_device(self, images: list[np.ndarray]) -> torch.Tensor:
        """[S,S,3] images as [B,3,S,S] uint8 on the device, in the chosen memory layout."""
        batch = torch.from_numpy(np.stack(images)).to(self.device)  # [B,S,S,3]
        return batch.permute(0, 3, 1, 2).contiguous(memory_format=self._layout)

    @torch.inference_mode()
    def _forward(self, images: torch.Tensor) -> dict[str, Predictions]:
        with self.autocast():
            return self.model(images, branches=self.branches)

    @torch.inference_mode()
    def _postprocess(self, outputs: dict[str, Predictions]) -> list[Detections]:
        """Detections in input pixels, of the wanted classes.

        Classes that are not wanted are taken out before boxes compete: they neither use up
        ``max_det`` nor suppress a wanted box.
        """
        if self.classes is not None:
            outputs = {name: self._silence(branch) for name, branch in outputs.items()}
        return postprocess(
            outputs,
            nms=self.nms,
            conf=self.conf,
            iou=self.iou,
            max_det=self.max_det,
            agnostic_nms=self.agnostic_nms,
        )

    def _silence(self, branch: Predictions) -> Predictions:
        """Classes that are not wanted get a score of 0, which is never a detection."""
        wanted = torch.zeros(branch.logits.shape[-1], dtype=torch.bool, device=self.device)
        wanted[self.classes] = True
        return replace(branch, logits=branch.logits.masked_fill(~wanted, -torch.inf))

    def _now(self) -> float:
        """The time, once the device has done what it was told."""
        synchronize(self.device)
        return time.perf_counter()

    def _result(self, frame: Frame, detections: Detections, speed: dict[str, float]) -> Result:
        found = detections.cpu()
        return Result(
            path=frame.path,
            frame=frame.frame,
            image=frame.image,
            boxes=found.boxes.numpy(),
            scores=found.scores.numpy(),
            labels=found.labels.numpy(),
            class_names=self.class_names,
            speed=speed,
            fps=frame.fps,
        )


def _milliseconds(marks: tuple[float, float, float, float], images: int) -> dict[str, float]:
    """Time an image from the four clock readings of a batch."""
    names = ("pre", "inference", "post")
    return {
        name: (end - begin) * 1000 / images
        for name, begin, end in zip(names, marks[:-1], marks[1:], strict=True)
    }
