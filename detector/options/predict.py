"""The options of ``det predict``."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass

from .fields import option
from .shared import (
    ClassesConfig,
    CommonConfig,
    DetectConfig,
    TileConfig,
    TrainedConfig,
    augment,
    input_size,
    rect,
)


@dataclass(frozen=True, kw_only=True)
class PredictConfig(TrainedConfig, ClassesConfig, TileConfig, DetectConfig, CommonConfig):
    """det predict: find objects in images and videos."""

    source: str | None = option(
        None, "Data", "Image, folder, glob pattern, list file (.txt, .csv, .streams), "
        "video, webcam number, URL or screen; "
        "several are separated by commas.")
    recursive: bool = option(False, "Data", "Search the folders inside a folder, too.")
    strict: bool = option(
        False, "Data", "Stop at the first of several sources that cannot be read. False reports it "
        "and goes on.")
    conf: str | float = option(
        0.25, "Detections", "Drop detections with a score below this. auto: the confidence of each "
        "class that the checkpoint proposes (best F1 in validation).", low=0.0, high=1.0)
    batch: int = option(1, "Run", "Images per step; with tile=, tiles.", low=1)
    imgsz: int | tuple[int, ...] | None = input_size()
    rect: bool | None = rect()
    augment: bool = augment()
    vid_stride: int = option(1, "Data", "Use every Nth frame of a video.", low=1)
    save: bool = option(True, "Output", "Write annotated images or videos.")
    save_frames: bool = option(
        False, "Output", "Write the annotated frames of a video as single images, too.")
    show: bool = option(False, "Output", "Show annotated images in a window while predicting.")
    show_labels: bool = option(True, "Output", "Draw the class names.")
    show_conf: bool = option(True, "Output", "Draw the scores.")
    show_boxes: bool = option(True, "Output", "Draw the boxes.")
    save_txt: bool = option(
        False, "Output", "Write YOLO label files (class cx cy w h, and the score with "
        "save_conf=True).")
    save_conf: bool = option(False, "Output", "Add the score to the label files.")
    save_json: bool = option(False, "Output", "Write all detections as predictions.json.")
    save_coco: bool = option(
        False, "Output", "Write the detections in images as coco_predictions.json in COCO's "
        "results format, and coco_images.json with the images and classes that it refers to.")
    save_labelstudio: bool = option(
        False, "Output", "Write labelstudio.json: the images as tasks for Label Studio, with the "
        "detections as predictions to correct.")
    save_crop: bool = option(False, "Output", "Write a cropped image of each detection.")
    line_width: int | None = option(
        None, "Output", "Width of drawn lines in pixels. Default: depends on the image size.",
        low=1)
