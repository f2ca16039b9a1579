"""The options of ``det val``."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass

from .fields import option
from .shared import (
    CommonConfig,
    DetectConfig,
    LoaderConfig,
    PlotsConfig,
    TileConfig,
    TrainedConfig,
    augment,
    input_size,
    rect,
)


@dataclass(frozen=True, kw_only=True)
class ValConfig(
    TrainedConfig, LoaderConfig, TileConfig, PlotsConfig, DetectConfig, CommonConfig
):
    """det val: measure a detector on a data set."""

    data: str | None = option(
        None, "Data", "Data set: YAML, folder or COCO JSON. Default: the one the checkpoint was "
        "trained on.")
    imgsz: int | tuple[int, ...] | None = input_size()
    rect: bool | None = rect()
    augment: bool = augment()
    batch: int = option(16, "Run", "Images per step.", low=1)
    conf: float = option(
        0.001, "Detections", "Ignore detections with a score below this.", low=0.0, high=1.0)
    precision: float | None = option(
        None, "Detections", "Propose the lowest confidence with this precision (0.9), instead of "
        "the one with the best F1.", low=0.0, high=1.0)
    save_conf: bool = option(
        False, "Output", "Write the proposed confidences into the checkpoint, for conf=auto of det "
        "predict, det track and exported files.")
    save_json: bool = option(
        False, "Output", "Write the detections as predictions.json in COCO's results format. "
        "image_id is the number in the name of an image (139 for 000139.jpg), else its position.")
    save_txt: bool = option(
        False, "Output", "Write the detections as YOLO label files with a score.")
