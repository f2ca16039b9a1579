"""Who compares: the images, what the checkpoint says about them, and the AP of both.

The checkpoint is asked once, in float32, however many files are compared with it.  Images are
those of a data set or, without one, scenes that det draws.  A file that takes any size is shown one
of them at another, oblong size as well, alone: a size or batch that is wired into it shows there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from ....datasets.batches.dataset import DetectionDataset
from ....datasets.batches.loader import Loader
from ....datasets.drawn.shapes import draw_scene
from ....datasets.formats.record import Record
from ....datasets.images.image import letterbox, read_image
from ....datasets.scan.scan import scan_split, summarise_findings
from ....datasets.sets.locate import load_dataset
from ....weights.checkpoint import Meta
from ...evaluate.class_names import relabelled
from ...evaluate.evaluator import evaluate
from ...evaluate.postprocess import Detections, branches_for, postprocess
from ...models.detector import Detector
from ...models.finder import Finder
from ...options.errors import UsageError
from ...options.export import ExportConfig
from ...options.formats import FULL
from ...run.log import Log
from ..exported import ExportedDetector
from ..targets import precision_of
from .parity import Parity, Tolerance, compare

SCENES = 4
"""Drawn where there is no data set."""
LOOKED_AT = 16
"""Images of a data set whose boxes are compared one by one."""
LOWEST = 0.001
"""Score from which detections count towards AP, as in det val."""
TOGETHER = 4
"""Images a step; files of a fixed batch have their own."""


@dataclass(frozen=True)
class Choice:
    """How predictions become detections, for checkpoint and file alike."""

    nms: bool
    iou: float
    max_det: int
    agnostic_nms: bool


class Examiner:
    """Compares files with one checkpoint.

    images: stacks [N,3,H,W] uint8, as the network sees them, the usual size first.  records: to
    measure the AP on; none: only boxes are compared.
    """

    def __init__(
        self,
        model: Detector,
        class_names: Sequence[str],
        images: Sequence[torch.Tensor],
        records: Sequence[Record],
        choice: Choice,
        device: torch.device,
        log: Log,
    ) -> None:
        self.model = model
        self.class_names = class_names
        self.images = images
        self.records = records
        self.choice = choice
        self.device = device
        self.log = log
        self._wanted: list[Detections] = self._ask(model, choice.nms)
        self._ap: float | None = None

    def compare(self, exported: ExportedDetector, tolerance: Tolerance) -> Parity:
        """How far the answers of a file are from the checkpoint's."""
        nms = self.choice.nms and exported.about.output == "raw"
        ap = None
        if self.records:
            if self._ap is None:
                self._ap = self._measure(self.model, self.choice.nms, "checkpoint")
            ap = (self._ap, self._measure(exported, nms, exported.about.format))
        return compare(self._wanted, self._ask(exported, nms), tolerance, ap)

    @torch.inference_mode()
    def _ask(self, model: Finder, nms: bool) -> list[Detections]:
        """What a model finds in the images."""
        found = []
        for images in (part for stack in self.images for part in stack.split(TOGETHER)):
            outputs = model(images.to(self.device), branches=branches_for(nms, model.branches))
            found += postprocess(
                outputs,
                nms=nms,
                conf=LOWEST,
                iou=self.choice.iou,
                max_det=self.choice.max_det,
                agnostic_nms=self.choice.agnostic_nms,
            )
        return found

    def _measure(self, model: Finder, nms: bool, what: str) -> float:
        """AP on the records, through the path of det val."""
        side = int(self.images[0].shape[-1])
        dataset = DetectionDataset(self.records, side, augment=None, align=model.letterbox)
        loader = Loader(dataset, TOGETHER, shuffle=False, workers=0, device_type=self.device.type)
        with self.log.progress(f"AP of the {what}", len(loader)) as update:
            evaluation = evaluate(
                model,
                loader,
                self.records,
                self.class_names,
                device=self.device,
                nms=nms,
                conf=LOWEST,
                iou=self.choice.iou,
                max_det=self.choice.max_det,
                agnostic_nms=self.choice.agnostic_nms,
                autocast=nullcontext,
                channels_last=False,
                on_progress=update,
            )
        loader.close()
        return float(evaluation.metrics.map)


def examiner_for(
    config: ExportConfig,
    model: Detector,
    meta: Meta,
    size: tuple[int, int],
    device: torch.device,
    log: Log,
) -> Examiner:
    """The examiner that the options ask for.  Raises UsageError where the data have other classes,
    or no box to judge int8=True by, and what reading them raises."""
    records = records_of(config, meta, log) if config.data is not None else []
    if records:
        step = max(1, len(records) // LOOKED_AT)
        pictures = [read_image(record.path) for record in records[::step][:LOOKED_AT]]
    else:
        pictures = [draw_scene(0, index, max(64, *size))[0] for index in range(SCENES)]
    images = [stack_of(pictures, size, model.letterbox)]
    if config.dynamic:
        oblong = size[0] + model.max_stride, size[1]
        images.append(stack_of(pictures[:1], oblong, model.letterbox))
    if records and size[0] != size[1]:
        log.info("AP is measured on square inputs only: boxes are compared, AP is not")
        records = []
    if records and not any(len(record.labels) for record in records):
        _tell_no_box(config, len(records), log)
        records = []
    choice = Choice(config.nms, config.iou, config.max_det, config.agnostic_nms)
    return Examiner(model, meta.class_names, images, records, choice, device, log)


def stack_of(pictures: Sequence[np.ndarray], size: tuple[int, int], align: str) -> torch.Tensor:
    """Pictures [H,W,3] letterboxed into one stack [N,3,H,W]."""
    fitted = [letterbox(picture, size, align=align)[0] for picture in pictures]
    return torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2).contiguous()


def _tell_no_box(config: ExportConfig, count: int, log: Log) -> None:
    """Say that there is no AP without boxes; raise UsageError where it is what decides."""
    none = f"none of the {count} images of split={config.split} of data={config.data} has a box"
    mend = "use a larger fraction=, or another split="
    if precision_of(config) == FULL:
        raise UsageError(f"int8=True is judged by its AP, but {none}: {mend}")
    log.warn(f"{none}: detections are compared, AP is not; to measure it {mend}")


def records_of(config: ExportConfig, meta: Meta, log: Log) -> list[Record]:
    """The images of ``data=`` to compare on, evenly spread where a fraction is asked for.  Warns of
    what is wrong with the data."""
    online = config.download and not config.offline
    dataset = load_dataset(str(config.data), download=online, on_message=log.message)
    scan = scan_split(dataset, config.split)
    for line in summarise_findings(scan):
        log.warn(f"{config.split}: {line}")
    records = scan.records
    if meta.config.get("single_cls"):
        records = [record.single_class() for record in records]
    else:
        names = dataset.class_names, "the checkpoint", meta.class_names
        records = relabelled(records, f"data={config.data}", *names, log.warn)
    count = max(1, round(len(records) * config.fraction))
    return [records[i * len(records) // count] for i in range(count)]
