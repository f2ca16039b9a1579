"""Who compares: the images, what the checkpoint says about them, and the AP of both.

The checkpoint is asked once, in float32, however many files are compared with it.  Images are
those of a data set or, without one, scenes that det draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from ...datasets.config import load_dataset
from ...datasets.dataset import DetectionDataset
from ...datasets.formats.record import Record
from ...datasets.image import letterbox, read_image
from ...datasets.loader import Loader
from ...datasets.scan import scan_split
from ...datasets.shapes import draw_scene
from ...weights.checkpoint import Meta
from ..config_export import ExportConfig
from ..evaluate.evaluator import evaluate
from ..evaluate.postprocess import Detections, branches_for, postprocess
from ..log import Log
from ..models.detector import Detector
from ..models.finder import Finder
from ..parse import UsageError
from .exported import ExportedDetector
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

    images: [N,3,H,W] uint8, as the network sees them.  records: to measure the AP on; none: only
    boxes are compared.
    """

    def __init__(
        self,
        model: Detector,
        class_names: Sequence[str],
        images: torch.Tensor,
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
        for images in self.images.split(TOGETHER):
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
        side = int(self.images.shape[-1])
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
    and what reading them raises."""
    records = records_of(config, meta, log) if config.data is not None else []
    if records:
        step = max(1, len(records) // LOOKED_AT)
        pictures = [read_image(record.path) for record in records[::step][:LOOKED_AT]]
    else:
        pictures = [draw_scene(0, index, max(64, *size))[0] for index in range(SCENES)]
    fitted = [letterbox(picture, size, align=model.letterbox)[0] for picture in pictures]
    images = torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2).contiguous()  # [N,3,H,W]
    if records and size[0] != size[1]:
        log.info("AP is measured on square inputs only: boxes are compared, AP is not")
        records = []
    choice = Choice(config.nms, config.iou, config.max_det, config.agnostic_nms)
    return Examiner(model, meta.class_names, images, records, choice, device, log)


def records_of(config: ExportConfig, meta: Meta, log: Log) -> list[Record]:
    """The images of ``data=`` to compare on, evenly spread where a fraction is asked for."""
    online = config.download and not config.offline
    dataset = load_dataset(str(config.data), download=online, on_message=log.message)
    records = scan_split(dataset, config.split).records
    if meta.config.get("single_cls"):
        records = [record.single_class() for record in records]
    elif len(dataset.class_names) != meta.num_classes:
        raise UsageError(
            f"data={config.data} has {len(dataset.class_names)} classes, the checkpoint knows "
            f"{meta.num_classes}: compare on the data it was trained for"
        )
    count = max(1, round(len(records) * config.fraction))
    return [records[i * len(records) // count] for i in range(count)]
