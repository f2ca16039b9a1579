"""Box arithmetic on NumPy arrays.

Inside the program boxes are xyxy in absolute pixels, float32, [N,4]: left, top, right, bottom.
Other notations exist only where files are read or written: xywhn (center, width, height as shares
of the image: YOLO label files) here, and COCO's xywh (left, top, width, height in pixels) in the
tables of evaluation.  Overlaps of boxes on tensors live with the losses.  Sizes are (height, width)
as everywhere.
"""

from __future__ import annotations

import numpy as np


def xywhn_to_xyxy(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Center, width, height as shares of an image of ``size`` -> xyxy pixels [N,4] float32."""
    height, width = size
    half = boxes[:, 2:4] / 2
    corners = np.concatenate((boxes[:, :2] - half, boxes[:, :2] + half), axis=1)  # [N,4]
    return (corners * (width, height, width, height)).astype(np.float32)


def xyxy_to_xywhn(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """xyxy pixels -> center, width, height as shares of an image of ``size``, [N,4] float64."""
    height, width = size
    corners = np.asarray(boxes, np.float64).reshape(-1, 4) / (width, height, width, height)
    first, last = corners[:, :2], corners[:, 2:]
    return np.concatenate(((first + last) / 2, last - first), axis=1)


def clip_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A copy of xyxy boxes [N,4], cut at the borders of an image of ``size``."""
    height, width = size
    return np.clip(boxes, 0, np.array((width, height, width, height), boxes.dtype))


def polygon_to_box(points: np.ndarray) -> np.ndarray:
    """The smallest upright box around points [P,2]: [x1, y1, x2, y2], in the points' unit."""
    return np.concatenate((points.min(axis=0), points.max(axis=0)))


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes [N,4] and [M,4] xyxy: [N,M], in the type of the boxes."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(box[:, 2:] - box[:, :2], 0, None).prod(axis=1) for box in (a, b)]
    union = areas[0][:, None] + areas[1][None, :] - common
    return common / np.maximum(union, 1e-9)
