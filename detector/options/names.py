"""Names that options accept: models, precisions, sources of weights."""

from __future__ import annotations

MODELS = (
    *("yolo26n", "yolo26s", "yolo26m", "yolo26l", "yolo26x"),
    *("yolo26n-p2", "yolo26s-p2", "yolo26m-p2"),
    *("yolo11n", "yolo11s", "yolo11m", "yolo11l", "yolo11x"),
    *("yolov8n", "yolov8s", "yolov8m", "yolov8l", "yolov8x"),
    *("yolov9t", "yolov9s", "yolov9m", "yolov9c"),
    *("yolox_nano", "yolox_tiny", "yolox_s", "yolox_m", "yolox_l", "yolox_x"),
)
"""Names that can be trained from scratch."""


AUTO = "auto"
"""``model=`` of a training that shall choose it."""


NMS_FREE = ("yolo26",)
"""Families with a one-to-one head.  The others always use NMS, whatever nms= says."""


PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
"""Precisions of a forward pass; tf32 is float32 with shorter products, on CUDA."""


FOREIGN = (".pt", ".pth")
"""Suffixes of other projects' checkpoints."""
