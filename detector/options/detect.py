"""How predictions become detections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """How the predictions of a model become detections.

    conf: lowest score that counts.  nms: read the one-to-many head with non-maximum suppression.
    iou: overlap above which NMS drops the lower-scored box.  agnostic_nms: NMS across classes.
    class_conf: lowest score of each class, beside conf; None for the same.  max_det: most
    detections per image.  classes: ids to look for, None for all.
    """

    conf: float
    nms: bool = False
    iou: float = 0.7
    max_det: int = 300
    agnostic_nms: bool = False
    classes: tuple[int, ...] | None = None
    class_conf: tuple[float, ...] | None = None
