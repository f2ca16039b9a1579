"""The options of ``det val``."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import knob
from .shared import CommonConfig, DetectConfig


@dataclass(frozen=True, kw_only=True)
class ValConfig(DetectConfig, CommonConfig):
    """det val: measure a detector on a data set."""

    model: str | None = knob(None, "Run")
    """Checkpoint to measure. Default: the best weights of the newest run of the project."""
    data: str | None = knob(None, "Data")
    """Data set YAML. Default: the one the checkpoint was trained on."""
    split: str = knob("val", "Data", choices=("train", "val", "test"))
    """Split to measure on."""
    batch: int = knob(16, "Run", low=1)
    """Images a step."""
    imgsz: int | None = knob(None, "Data", low=32)
    """Side of the square network input in pixels. Default: the checkpoint's."""
    conf: float = knob(0.001, "Detections", low=0.0, high=1.0)
    """Score below which detections are not counted."""
    amp: str = knob(
        "checkpoint",
        "Precision",
        choices=("checkpoint", "auto", "true", "false", "fp16", "bf16", "fp32"),
    )
    """Precision of the forward pass. Default: the one the checkpoint was validated in while
    training."""
    channels_last: bool = knob(True, "Precision")
    """Keep images and features in channels-last memory."""
    workers: int | None = knob(None, "Data", low=0)
    """Loader processes. Default: chosen from the cores and the device."""
    download: bool = knob(True, "Data")
    """Allow a built-in data set to be downloaded where it is not on disk."""
    single_cls: bool = knob(False, "Data")
    """Treat all classes as one."""
    save_json: bool = knob(False, "Outputs")
    """Write the detections as predictions.json in COCO's results format."""
    save_txt: bool = knob(False, "Outputs")
    """Write the detections as YOLO label files with a score."""
    plots: bool = knob(True, "Outputs")
    """Write pictures into the run folder."""
