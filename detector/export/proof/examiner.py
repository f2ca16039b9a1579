"""The images that files are compared on, the checkpoint's detections in them, and the AP of both.

The checkpoint runs once, in float32, however many files are compared with it.  Images come from a
data set or are drawn.  A dynamic file is also run on one image alone at another, non-square size,
which reveals a size or batch that is fixed in the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ....datasets.batches.dataset import DetectionDataset
from ....datasets.batches.loader import Loader
from ....datasets.batches.tiles import lay
from ....datasets.drawn.shapes import draw_scene
from ....datasets.images.image import letterbox, read_usable
from ....datasets.images.input_size import InputSize
from ....datasets.scan.scan import scan_split, summarize_findings
from ....datasets.sets.locate import load_dataset
from ....datasets.sets.rename import as_trained
from ....files.counted import counted
from ....weights.checkpoint import Meta
from ...evaluate.class_names import ClassNames, GroundTruth, ground_truth
from ...evaluate.evaluator import evaluate
from ...evaluate.postprocess import Detections, branches_for, postprocess
from ...evaluate.tiling import tiling_of
from ...models.detector import Detector
from ...models.detector_like import DetectorLike, ForwardOptions
from ...options.detect import DetectOptions
from ...options.errors import UsageError
from ...options.export import ExportConfig
from ...options.formats import FULL
from ...run.log import Log
from ..exported import ExportedDetector
from ..targets import precision_of
from .parity import Parity, Tolerance, compare

SCENES = 4
"""Images drawn where there is no data set."""
LOOKED_AT = 16
"""Images of a data set whose boxes are compared one by one."""
LOWEST = 0.001
"""Score threshold of AP, as in det val."""
TOGETHER = 4
"""Images per step; files of a fixed batch have their own."""
NO_TRUTH = GroundTruth((), ())


class Examiner:
    """Compares files with one checkpoint.

    images: stacks [N,3,H,W] uint8, as the network sees them, the usual size first.  input: of the
    images that the AP is measured on.  truth: to
    measure the AP on; without records only boxes are compared.  detect: for checkpoint and file.
    """

    def __init__(
        self,
        model: Detector,
        images: Sequence[torch.Tensor],
        input_size: InputSize,
        truth: GroundTruth,
        detect: DetectOptions,
        device: torch.device,
        log: Log,
    ) -> None:
        self.model = model
        self.images = images
        self.input = input_size
        self.truth = truth
        self.detect = detect
        self.device = device
        self.log = log
        self._wanted: list[Detections] = self._ask(model, detect)
        self._ap: float | None = None

    def compare(self, exported: ExportedDetector, tolerance: Tolerance) -> Parity:
        """Compare one file with the checkpoint."""
        nms = self.detect.nms and not exported.about.finished
        detect = replace(self.detect, nms=nms)
        ap = None
        if self.truth.records:
            if self._ap is None:
                self._ap = self._measure(self.model, self.detect, "checkpoint")
            ap = (self._ap, self._measure(exported, detect, exported.about.format))
        return compare(self._wanted, self._ask(exported, detect), tolerance, ap)

    @torch.inference_mode()
    def _ask(self, model: DetectorLike, detect: DetectOptions) -> list[Detections]:
        """Detections of a model in the images."""
        branches = branches_for(detect.nms, model.branches)
        found = []
        for images in (part for stack in self.images for part in stack.split(TOGETHER)):
            outputs = model(images.to(self.device), branches=branches)
            found += postprocess(outputs, detect)
        return found

    def _measure(self, model: DetectorLike, detect: DetectOptions, what: str) -> float:
        """AP on the records, through the path of det val."""
        truth, align = self.truth, model.letterbox
        dataset = DetectionDataset(
            truth.seen, self.input, augment=None, align=align, tiles=truth.tiles
        )
        loader = Loader(dataset, TOGETHER, shuffle=False, workers=0, device_type=self.device.type)
        with self.log.progress(f"AP of the {what}", len(loader)) as update:
            forward = ForwardOptions(self.device, channels_last=False)
            evaluation = evaluate(model, loader, truth, detect, forward, update)
        loader.close()
        return float(evaluation.metrics.map)


def examiner_for(
    config: ExportConfig,
    model: Detector,
    meta: Meta,
    input_size: InputSize,
    device: torch.device,
    log: Log,
) -> Examiner:
    """The examiner for these options.  input_size: for the AP; boxes are compared at its whole
    size.  Raises UsageError where the data have other classes, or no
    box and int8=True needs an AP, and whatever reading the data raises."""
    truth = truth_of(config, meta, log) if config.data is not None else NO_TRUTH
    records, size = truth.records, input_size.whole
    if records:
        step = max(1, len(records) // LOOKED_AT)
        paths = [record.path for record in records[::step][:LOOKED_AT]]
        pictures = list(read_usable(paths, log.warn, input_size.pixels))
    else:
        pictures = [draw_scene(0, index, max(64, *size))[0] for index in range(SCENES)]
    images = [letterboxed(pictures, size, model.letterbox)]
    if config.dynamic:
        oblong = size[0] + model.max_stride, size[1]
        images.append(letterboxed(pictures[:1], oblong, model.letterbox))
    if records and not any(len(record.labels) for record in records):
        _report_no_box(config, len(records), log)
        truth = NO_TRUTH
    return Examiner(model, images, input_size, truth, config.detect_options(LOWEST), device, log)


def letterboxed(pictures: Iterable[np.ndarray], size: tuple[int, int], align: str) -> torch.Tensor:
    """Pictures [H,W,3] letterboxed into one stack [N,3,H,W]."""
    fitted = [letterbox(picture, size, align=align)[0] for picture in pictures]
    return torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2).contiguous()


def _report_no_box(config: ExportConfig, count: int, log: Log) -> None:
    """Warn that there is no AP without boxes; raise UsageError where the AP decides."""
    none = (
        f"none of {counted(count, 'image')} of split={config.split} of data={config.data} has a box"
    )
    fix = "use a larger fraction=, or another split="
    if precision_of(config) == FULL:
        raise UsageError(f"int8=True is judged by its AP, but {none}: {fix}")
    log.warn(f"{none}: detections are compared, AP is not; to measure it {fix}")


def truth_of(config: ExportConfig, meta: Meta, log: Log) -> GroundTruth:
    """``fraction`` of the images of ``data=``, evenly spread, in the tiles of the checkpoint.
    Warns of findings in the data."""
    dataset = load_dataset(config.data_source, download=config.online, on_message=log.message)
    if config.names is None:
        dataset = as_trained(dataset, meta.config.get("names"), meta.class_names, log.info)
    scan = scan_split(dataset, config.split, strict=config.allow is None)
    for line in summarize_findings(scan):
        log.warn(f"{config.split}: {line}")
    truth = ground_truth(
        scan.records,
        ClassNames(f"data={config.data}", dataset.class_names),
        ClassNames("the checkpoint", meta.class_names),
        single_cls=bool(meta.config.get("single_cls")),
        warn=log.warn,
    )
    total = len(truth.records)
    count = max(1, round(total * config.fraction))
    records = [truth.records[i * total // count] for i in range(count)]
    tiling = tiling_of(meta)
    return replace(truth, records=records, tiles=None if tiling is None else lay(records, tiling))
