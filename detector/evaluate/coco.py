"""COCO's metrics, computed by faster-coco-eval in memory and returned as arrays.

faster-coco-eval is COCO's evaluator in C++ and agrees with pycocotools to the last digits.
Category ids are class numbers.  COCO's conventions hold: IoU 0.50:0.05:0.95, 101 recall points,
areas split at 32^2 and 96^2, and the 100 best detections per image and class, whatever ``max_det``
was when they were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from .tables import BoxTable

AREAS = ("all", "small", "medium", "large")
MAX_DETS = (1, 10, 100)
IOUS = tuple(0.5 + 0.05 * i for i in range(10))
NUM_RECALLS = 101


def coco_ground_truth(
    truth: BoxTable,
    image_ids: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    class_names: Sequence[str],
) -> dict[str, Any]:
    """COCO's annotation dictionary of the ground truth.

    ``truth.images`` index ``image_ids`` and ``sizes`` (height, width).
    """
    images = [
        {"id": image_id, "height": height, "width": width}
        for image_id, (height, width) in zip(image_ids, sizes, strict=True)
    ]
    ids = np.asarray(image_ids, np.int64)[truth.images]
    columns = (ids, truth.labels, truth.boxes, truth.areas, truth.crowd.astype(int))
    annotations = [
        {"id": i, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": c}
        for i, (image, label, box, area, c) in enumerate(_rows(*columns), start=1)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(class_names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_results(found: BoxTable, image_ids: Sequence[int]) -> list[dict[str, Any]]:
    """COCO's results format: image_id, category_id, bbox (x, y, width, height), score."""
    ids = np.asarray(image_ids, np.int64)[found.images]
    return [
        {"image_id": image, "category_id": label, "bbox": box, "score": score}
        for image, label, box, score in _rows(ids, found.labels, found.boxes, found.scores)
    ]


def image_numbers(paths: Sequence[Path]) -> list[int]:
    """The ids of images in a results file: the numbers that the files are called by, as in COCO,
    where every name is another number; else their positions."""
    stems = [path.stem for path in paths]
    numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdigit()]
    return numbers if len(set(numbers)) == len(stems) else list(range(len(stems)))


def _rows(*columns: np.ndarray) -> Any:
    return zip(*(column.tolist() for column in columns), strict=True)


def precision_and_recall(
    ground_truth: dict[str, Any], results: list[dict[str, Any]], most: int = MAX_DETS[-1]
) -> tuple[np.ndarray, np.ndarray]:
    """COCO's tables, nan without ground truth.

    most: the last limit of detections per image and class, COCO's is 100.
    Letters: T IoU thresholds, R recall points, C classes, 4 areas (AREAS), 3 limits (MAX_DETS).
    Returns precision [T,R,C,4,3] and the largest recall [T,C,4,3].
    """
    num_classes = len(ground_truth["categories"])
    if not ground_truth["images"]:
        shape = (len(IOUS), NUM_RECALLS, num_classes, len(AREAS), len(MAX_DETS))
        return np.full(shape, np.nan), np.full((shape[0], *shape[2:]), np.nan)
    for i, row in enumerate(results, start=1):
        _, _, width, height = row["bbox"]
        row.update(id=i, area=width * height, iscrowd=0)
    evaluator = COCOeval_faster(
        _quiet_coco(ground_truth),
        _quiet_coco({**ground_truth, "annotations": results}),
        "bbox",
        print_function=_say_nothing,
    )
    evaluator.params.maxDets = [*MAX_DETS[:-1], most]
    evaluator.evaluate()
    evaluator.accumulate()
    precision, recall = evaluator.eval["precision"], evaluator.eval["recall"]
    return _absent_as_nan(precision), _absent_as_nan(recall)


def _quiet_coco(data: dict[str, Any]) -> COCO:
    coco = COCO(print_function=_say_nothing)
    coco.dataset = data
    coco.createIndex()
    return coco


def _say_nothing(*_: object) -> None:
    pass


def _absent_as_nan(table: np.ndarray) -> np.ndarray:
    return np.where(table < 0, np.nan, table)  # COCO writes -1 for "no ground truth"
