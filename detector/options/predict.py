"""The options of ``det predict``."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import knob
from .shared import CommonConfig, DetectConfig


@dataclass(frozen=True, kw_only=True)
class PredictConfig(DetectConfig, CommonConfig):
    """det predict: find objects in images and videos."""

    model: str | None = knob(None, "Run")
    """Checkpoint to use. Default: the best weights of the newest run of the project."""
    source: str | None = knob(None, "Data")
    """Image, folder, glob, list file (.txt), video, webcam number, URL, or several separated by
    commas."""
    conf: float = knob(0.25, "Detections", low=0.0, high=1.0)
    """Score below which detections are dropped."""
    classes: str | None = knob(None, "Detections")
    """Only these classes: names or numbers separated by commas."""
    imgsz: int | None = knob(None, "Data", low=32)
    """Side of the square network input in pixels. Default: the checkpoint's."""
    batch: int = knob(1, "Run", low=1)
    """Images a step."""
    amp: str = knob(
        "checkpoint",
        "Precision",
        choices=("checkpoint", "auto", "true", "false", "fp16", "bf16", "fp32"),
    )
    """Precision of the forward pass. Default: the one the checkpoint was validated in while
    training."""
    channels_last: bool = knob(True, "Precision")
    """Keep images and features in channels-last memory."""
    vid_stride: int = knob(1, "Data", low=1)
    """Use every so many frames of a video."""
    save: bool = knob(True, "Outputs")
    """Write annotated pictures or videos."""
    save_txt: bool = knob(False, "Outputs")
    """Write YOLO label files (class cx cy w h, with save_conf a score)."""
    save_conf: bool = knob(False, "Outputs")
    """Add the score to the label files."""
    save_json: bool = knob(False, "Outputs")
    """Write all detections as predictions.json."""
    save_crop: bool = knob(False, "Outputs")
    """Write a picture of each detection."""
    line_width: int | None = knob(None, "Outputs", low=1)
    """Width of drawn lines in pixels. Default: by image size."""
