"""An exported file with the interface of a Detector, for validation and prediction.

A file returns finished detections or, exported raw, boxes and scores of every anchor point.  Both
are converted to ``Predictions`` (a detection becomes an anchor point at 0, 0 whose distances are
its corners), so that the code after it is the same as for a checkpoint.  A file of a fixed batch
gets images in such batches, the last one filled up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...datasets.images.input_size import InputSize
from ...files.errors import InputError
from ..models.detector_like import fitted
from ..models.gray import to_gray
from ..models.predictions import ONE_TO_ONE, Predictions
from ..options.formats import FORMATS, ExportError, format_of, require
from .formats.about import MARK, About
from .formats.checksum import check
from .formats.foreign import foreign_texts
from .formats.interface import Runner
from .formats.writers import WRITERS


class SizeError(InputError):
    """An input size that the file does not accept."""


class ExportedDetector(nn.Module):
    """An exported file as a detector.  runner: the loaded file.  about: its metadata."""

    def __init__(self, runner: Runner, about: About) -> None:
        super().__init__()
        self.runner = runner
        self.about = about
        self.name = about.model
        self.num_classes = about.num_classes
        self.letterbox = about.letterbox
        self.max_stride = about.stride
        self.channels = about.channels

    @property
    def branches(self) -> tuple[str, ...]:
        """The branch of the outputs; finished detections count as one-to-one: no NMS follows."""
        return (ONE_TO_ONE,) if self.about.finished else (self.about.head,)

    def input_size(
        self, wanted: int | tuple[int, ...] | None, *, rect: bool = False
    ) -> InputSize:
        """The input for a ``wanted`` side or size; None: the usual size.  rect: of a dynamic file,
        cut to the shape of each image.  Raises SizeError."""
        size = fitted(wanted or self.about.image_size, self.max_stride, rect=rect)
        if wanted is not None:
            self._check_size(*size.whole)
        return replace(size, least=self.about.smallest_side) if rect else size

    def _check_size(self, height: int, width: int) -> None:
        own = "x".join(map(str, self.about.image_size))
        least = self.about.smallest_side
        if not self.about.dynamic and (height, width) != self.about.image_size:
            raise SizeError(
                f"this file takes images of {own}, not {height}x{width}: leave imgsz= out, or "
                "export with dynamic=True"
            )
        if min(height, width) < least:
            raise SizeError(f"this file takes sides from {least} pixels on, not {height}x{width}")

    def forward(
        self, images: torch.Tensor, branches: tuple[str, ...] | None = None
    ) -> dict[str, Predictions]:
        """images: [B,3,H,W] RGB, uint8 or float in 0..1.  Raises SizeError."""
        self._check_size(*images.shape[-2:])
        outputs = [torch.from_numpy(array) for array in self._run(self.inputs(images))]
        if self.about.output == "output0":
            found = predictions_of_joined(outputs[0])
        elif self.about.output == "raw":
            found = predictions_of(*outputs)
        else:
            found = predictions_of_rows(outputs[0], self.num_classes)
        return {self.branches[0]: found}

    def inputs(self, images: torch.Tensor) -> np.ndarray:
        """The images [B,3,H,W] in the type and with the channels of the file."""
        images = (to_gray(images) if self.channels == 1 else images).cpu().contiguous()
        if self.about.input == "uint8":
            whole = images if images.dtype == torch.uint8 else (images * 255).round()
            return whole.to(torch.uint8).numpy()
        unit = 255 if images.dtype == torch.uint8 else 1
        return (images.float() / unit).numpy()

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        if self.about.dynamic:
            return self.runner(images)
        parts = [self.runner(chunk) for chunk in chunks(images, self.about.batch)]
        joined = [np.concatenate(each) for each in zip(*parts, strict=True)]
        return [array[: len(images)] for array in joined]


def chunks(images: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Batches of exactly ``batch`` images; the last is filled up with black ones."""
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        spare = batch - len(part)
        yield np.pad(part, [(0, spare), (0, 0), (0, 0), (0, 0)]) if spare else part


def predictions_of_rows(rows: torch.Tensor, num_classes: int) -> Predictions:
    """Rows [B,D,6] (x1, y1, x2, y2, score, class) as Predictions of D anchor points."""
    labels = rows[..., 5:].long().clamp(0, num_classes - 1)
    scores = rows.new_zeros(*rows.shape[:2], num_classes).scatter(2, labels, rows[..., 4:5])
    return predictions_of(rows[..., :4], scores)


def predictions_of_joined(joined: torch.Tensor) -> Predictions:
    """``output0`` [B,4+C,A] (center, width, height, scores) as Predictions of A anchor points."""
    centers, sides, scores = joined.transpose(1, 2).split((2, 2, joined.shape[1] - 4), -1)
    return predictions_of(torch.cat((centers - sides / 2, centers + sides / 2), -1), scores)


def predictions_of(boxes: torch.Tensor, scores: torch.Tensor) -> Predictions:
    """Boxes [B,A,4] and scores [B,A,C] as Predictions of A anchor points at 0, 0."""
    distances = torch.cat((-boxes[..., :2], boxes[..., 2:]), -1)
    count = boxes.shape[1]
    return Predictions(scores.logit(), distances, boxes.new_zeros(count, 2), boxes.new_ones(count))


def about_file(path: Path) -> About:
    """The metadata of an exported file, whose checksum is verified.

    Files of Ultralytics are read by their own metadata (``foreign.py``); they have no checksum.
    Raises ExportError where it is damaged or written by another program, MissingPackage where its
    runtime is not installed.
    """
    row = format_of(path)
    if row is None:
        raise ExportError(f"{path}: no format of det has this suffix")
    if not path.exists():
        raise ExportError(f"{path} does not exist")
    if not path.is_file() and not path.is_dir():
        raise ExportError(f"{path} is not a regular file (a pipe, device or socket)")
    require(row, to_run=True)
    main = row.main_file(path)
    texts = WRITERS[row.name].read_about(main)
    if MARK not in texts and (theirs := foreign_texts(row.name, main)):
        return About.from_texts(theirs, path)
    about = About.from_texts(texts, path)
    if about.format != row.name:
        raise ExportError(f"{path} says that it is a file of {about.format}: export it again")
    check(row.files(main), about.checksum)
    return about


def open_exported(path: Path, device: torch.device, threads: int | None = None) -> ExportedDetector:
    """Load an exported file as a detector.  threads: of its runtime; None: its default.

    Raises what ``about_file`` raises, and ExportError where the runtime cannot load it.
    """
    about = about_file(path)
    main = FORMATS[about.format].main_file(path)
    runner = WRITERS[about.format].open_file(main, device, threads)
    return ExportedDetector(_named(runner, path, about), about)


def _named(runner: Runner, path: Path, about: About) -> Runner:
    """``runner`` whose errors name its file: metadata may say what the graph does not take."""
    outputs = 2 if about.output == "raw" else 1

    def run(images: np.ndarray) -> list[np.ndarray]:
        try:
            found = runner(images)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise ExportError(f"{path} cannot be run ({reason}); export it again") from error
        if len(found) != outputs:
            raise ExportError(
                f"{path} has {len(found)} outputs, and its metadata say {about.output}: export it "
                "again"
            )
        _check_shape(found[0].shape, about, path)
        return found

    return run


def _check_shape(shape: tuple[int, ...], about: About, path: Path) -> None:
    """Raise ExportError where an output is not what the metadata promise."""
    joined = 4 + about.num_classes
    right = {"detections": shape[-1] == 6, "output0": len(shape) == 3 and shape[1] == joined}
    if not right.get(about.output, True):
        raise ExportError(
            f"{path} returns an array of {shape}, and its metadata say {about.output}: export it "
            "again"
        )
