"""Detections -> Metrics: COCO's average precision, and precision, recall and F1 by confidence.

AP and AR are COCO's (coco.py).  Precision, recall and F1 come from the same detections, matched by
COCO's rule at IoU 0.5 (matching.py), for confidences in steps of 0.001.  ``best_conf`` is the
confidence with the largest F1, averaged over the classes with ground truth; if a range is equally
good, its middle; 0.25 if no F1 is above 0.  The confusion matrix is made at ``best_conf``.

Conventions: a class without ground truth has no numbers (nan, None in ``to_dict``) and is left out
of averages.  A class with ground truth and no detection has precision, recall and F1 of 0.  Crowd
boxes and their detections are ignored.  The area of a true box is that of its rectangle unless
``areas`` are given (COCO's files give the area of the mask).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from ...datasets.formats.record import Record
from .coco import AREAS, MAX_DETS, coco_ground_truth, coco_results, precision_and_recall
from .curves import CONFIDENCES, best_place, confidence_curves
from .matching import confusion_matrix, match
from .postprocess import Detections
from .tables import BoxTable, check_table, image_table, join_tables

CURVE_IOU = 0.5
CONFUSION_IOU = 0.45
FALLBACK_CONF = 0.25
RECALLS = np.linspace(0, 1, 101)


class ClassMetrics(NamedTuple):
    """One class.  images: with the class.  boxes: of the class.  precision, recall, f1: at
    ``best_conf`` of all classes.  ap_50, ap: COCO's at IoU 0.50 and 0.50:0.95."""

    name: str
    images: int
    boxes: int
    precision: float
    recall: float
    f1: float
    ap_50: float
    ap: float


@dataclass(frozen=True)
class Curves:
    """Lines to draw; rows of classes without ground truth are nan.

    recalls: [101].  pr: [C,101] precision by recall, IoU 0.5, COCO's envelope.
    confidences: [1001].  precision, recall, f1: [C,1001] by confidence, IoU 0.5.
    """

    recalls: np.ndarray
    pr: np.ndarray
    confidences: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


@dataclass(frozen=True)
class Metrics:
    """The metrics of a detector on a data set.

    map: AP over IoU 0.50:0.95, COCO's main number; map_50, map_75 at one IoU; map_small, _medium,
    _large by area in original pixels (below 32^2, up to 96^2, above).  ar_1, ar_10, ar_100: average
    recall with at most 1, 10, 100 detections per image and class.  precision, recall, f1: averages
    over classes at ``best_conf``.  confusion: [C+1,C+1] int64, row = true class, column =
    predicted, last = background.  num_boxes: true boxes without crowds.  crowded: images with more
    than 100 boxes of a class.  map_all: AP that counts all detections and not only the best 100 per
    image and class, as COCO's does; the same as map where no image is crowded.
    """

    map: float
    map_50: float
    map_75: float
    map_small: float
    map_medium: float
    map_large: float
    ar_1: float
    ar_10: float
    ar_100: float
    precision: float
    recall: float
    f1: float
    best_conf: float
    num_images: int
    num_boxes: int
    per_class: list[ClassMetrics]
    curves: Curves
    confusion: np.ndarray
    map_all: float
    crowded: int

    @property
    def score(self) -> float:
        """What chooses the best weights: AP, and AP of all detections where images are crowded."""
        return self.map_all if self.crowded else self.map

    @property
    def class_names(self) -> list[str]:
        return [row.name for row in self.per_class]

    def to_dict(self, curves: bool = False) -> dict[str, Any]:
        """Plain numbers, lists and None, ready for JSON; ``curves`` adds the long ones."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        data["per_class"] = [row._asdict() for row in self.per_class]
        if curves:
            data["curves"] = {f.name: getattr(self.curves, f.name) for f in fields(Curves)}
        else:
            del data["curves"]
        plain: dict[str, Any] = _plain(data)
        return plain


class DetectionCollector:
    """Collects ground truth and detections image by image, in pixels of the original image."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = list(class_names)
        self._ids: list[int] = []
        self._sizes: list[tuple[int, int]] = []
        self._found: list[BoxTable] = []
        self._truth: list[BoxTable] = []

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, image_id: int, record: Record, detections: Detections) -> None:
        """Add one image.  Raises ValueError for a number that is not finite or an unknown class
        id."""
        place, num_classes = len(self), len(self.class_names)
        columns = {"crowd": record.crowd, "areas": record.area}
        truth = image_table(place, record.boxes, record.labels, **columns)
        found = image_table(place, detections.boxes, detections.labels, detections.scores)
        check_table(truth, num_classes, f"true boxes of image {image_id}")
        check_table(found, num_classes, f"detections of image {image_id}")
        self._ids.append(int(image_id))
        self._sizes.append(record.size)
        self._truth.append(truth)
        self._found.append(found)

    def detections(self) -> dict[int, Detections]:
        """The detections of each image, best first, by its id."""
        found = {}
        for id, table in zip(self._ids, self._found, strict=True):
            corners = table.boxes + np.pad(table.boxes[:, :2], ((0, 0), (2, 0)))
            columns = (corners.astype(np.float32), table.scores, table.labels)
            found[id] = Detections(*(torch.from_numpy(column) for column in columns))
        return found

    @staticmethod
    def joined(parts: Sequence[DetectionCollector]) -> DetectionCollector:
        """The images of all ``parts``, sorted by image id."""
        whole = DetectionCollector(parts[0].class_names)
        images = [
            image
            for part in parts
            for image in zip(part._ids, part._sizes, part._found, part._truth, strict=True)
        ]
        for place, (id, size, *tables) in enumerate(sorted(images, key=lambda image: image[0])):
            found, truth = (replace(t, images=np.full_like(t.images, place)) for t in tables)
            whole._ids.append(id)
            whole._sizes.append(size)
            whole._found.append(found)
            whole._truth.append(truth)
        return whole

    def compute(self) -> Metrics:
        """All metrics of what was added.  Raises ValueError if an image id was added twice."""
        if len(set(self._ids)) < len(self._ids):
            raise ValueError("an image id was added twice, expected each id once")
        found, truth = join_tables(self._found), join_tables(self._truth)
        num_classes = len(self.class_names)
        ground_truth, results = self.coco_ground_truth(), self.coco_results()
        precision, recall = precision_and_recall(ground_truth, results)
        crowded, numbers = _crowded(truth), _coco_numbers(precision, recall)
        map_all = numbers["map"]
        if crowded:
            every, _ = precision_and_recall(ground_truth, self.coco_results(), most=_most(found))
            map_all = _mean(every[..., 0, -1])
        owners = match(found, truth, CURVE_IOU)
        by_conf = confidence_curves(found, truth, owners, num_classes)
        place = best_place(by_conf[2])
        conf = FALLBACK_CONF if place is None else round(float(CONFIDENCES[place]), 3)
        at_best = [curve[:, place or 0] for curve in by_conf]
        usable = found.select(found.scores >= np.float32(conf))
        return Metrics(
            **numbers,
            precision=_mean(at_best[0]),
            recall=_mean(at_best[1]),
            f1=_mean(at_best[2]),
            best_conf=conf,
            num_images=len(self),
            num_boxes=int((~truth.crowd).sum()),
            per_class=_per_class(self.class_names, truth, at_best, precision[..., 0, -1]),
            curves=Curves(RECALLS, precision[0, :, :, 0, -1].T, CONFIDENCES, *by_conf),
            confusion=confusion_matrix(usable, truth, num_classes, CONFUSION_IOU),
            map_all=map_all,
            crowded=crowded,
        )

    def found(self) -> Iterator[tuple[tuple[int, int], BoxTable]]:
        """Size (height, width) and detections of each image, in the order they were added."""
        yield from zip(self._sizes, self._found, strict=True)

    def tables(self) -> Iterator[tuple[BoxTable, BoxTable]]:
        """Detections and ground truth of each image, in the order they were added."""
        yield from zip(self._found, self._truth, strict=True)

    def coco_ground_truth(self) -> dict[str, Any]:
        """The true boxes as a COCO annotation dictionary; category ids are class indices."""
        return coco_ground_truth(join_tables(self._truth), self._ids, self._sizes, self.class_names)

    def coco_results(self, image_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """The detections in COCO's results format, not rounded: they have the AP of ``compute``.

        image_ids: to be written for the images, in the order they were added; None: their own.
        """
        return coco_results(join_tables(self._found), image_ids or self._ids)


def _crowded(truth: BoxTable) -> int:
    """Images with more true boxes of one class than COCO's AP counts detections."""
    pairs = np.stack((truth.images, truth.labels))[:, ~truth.crowd]
    places, counts = np.unique(pairs, axis=1, return_counts=True)
    return len(np.unique(places[0][counts > MAX_DETS[-1]]))


def _most(found: BoxTable) -> int:
    """The most detections of a class in an image."""
    counts = np.unique(np.stack((found.images, found.labels)), axis=1, return_counts=True)[1]
    return max(int(counts.max(initial=0)), MAX_DETS[-1])


def _coco_numbers(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """COCO's summary: averages over the tables of coco.py, nan left out."""
    numbers = {"map": _mean(precision[..., 0, -1])}
    numbers["map_50"] = _mean(precision[0, ..., 0, -1])
    numbers["map_75"] = _mean(precision[5, ..., 0, -1])
    for i, area in enumerate(AREAS[1:], start=1):
        numbers[f"map_{area}"] = _mean(precision[..., i, -1])
    for i, limit in enumerate(MAX_DETS):
        numbers[f"ar_{limit}"] = _mean(recall[..., 0, i])
    return numbers


def _per_class(
    names: Sequence[str], truth: BoxTable, best: Sequence[np.ndarray], precision: np.ndarray
) -> list[ClassMetrics]:
    """Rows of the table; best: precision, recall, F1 [C] each; precision: COCO's [T,R,C]."""
    num_boxes = np.bincount(truth.labels[~truth.crowd], minlength=len(names))
    pairs = np.unique(np.stack((truth.labels, truth.images)), axis=1)  # [2,P] class, image
    num_images = np.bincount(pairs[0], minlength=len(names))
    rows = []
    for i, name in enumerate(names):
        p, r, f1 = (float(column[i]) for column in best)
        ap_50, ap = _mean(precision[0, :, i]), _mean(precision[:, :, i])
        rows.append(ClassMetrics(name, int(num_images[i]), int(num_boxes[i]), p, r, f1, ap_50, ap))
    return rows


def _mean(values: np.ndarray) -> float:
    """Average without nan; nan if there is no number."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
