"""Every knob of every command, once: one frozen dataclass a command, a docstring under each field.

The command line, ``det config``, the docs page and the checks are generated from these classes;
there is no second list. A field is made with ``knob(default, group, ...)``: the group is its
heading in the help, ``low``/``high``/``choices`` are checked for every source of values (command
line, YAML, Python).  ``None`` as a default means: chosen from the data, the model or the device
when the command runs, and the choice is printed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MODELS = (
    *("yolo26n", "yolo26s", "yolo26m", "yolo26l", "yolo26x"),
    *("yolo11n", "yolo11s", "yolo11m", "yolo11l", "yolo11x"),
    *("yolov8n", "yolov8s", "yolov8m", "yolov8l", "yolov8x"),
    *("yolov9t", "yolov9s", "yolov9m", "yolov9c"),
    *("yolox_nano", "yolox_tiny", "yolox_s", "yolox_m", "yolox_l", "yolox_x"),
)
"""Names that can be trained from scratch."""
NMS_FREE = ("yolo26",)
"""Families with a one-to-one head.  The others go through NMS whatever nms= says."""
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
"""Ways to compute a forward pass; tf32 is float32 with shorter products, on CUDA."""


def knob(
    default: Any,
    group: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A config field: its default, help group, inclusive range and allowed words."""
    metadata = {"group": group, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """Knobs of every command that runs a model."""

    device: str | None = knob(None, "Run")
    """Where to run: cpu, cuda, 0, 1, mps; to train also several (0,1). Default: the first GPU, else
    the CPU."""
    project: str = knob("runs", "Run")
    """Folder that holds the run folders."""
    name: str | None = knob(None, "Run")
    """Name of the run folder; a taken name gets -2, -3, ... Default: the command's name."""
    exist_ok: bool = knob(False, "Run")
    """Write into a run folder that exists instead of taking the next free name."""
    verbose: bool = knob(True, "Run")
    """Print progress and tables on stderr; False leaves only warnings."""
    offline: bool = knob(False, "Run")
    """Fetch no weights and no data set: what is not on disk is an error."""
    accept_license: str | None = knob(None, "Run")
    """Name of a licence to agree to, where weights to be downloaded ask for it."""


@dataclass(frozen=True, kw_only=True)
class DetectConfig:
    """How predictions become detections: the same knobs and the same code in train, val, predict
    and export."""

    nms: bool = knob(False, "Detections")
    """Use the one-to-many head with non-maximum suppression; False uses the NMS-free one-to-one
    head where the family has one (yolo26)."""
    iou: float = knob(0.7, "Detections", low=0.0, high=1.0)
    """Overlap above which NMS drops the lower-scored box (only where NMS is used)."""
    max_det: int = knob(300, "Detections", low=1)
    """Most detections kept for an image."""
    agnostic_nms: bool = knob(False, "Detections")
    """NMS across classes (only where NMS is used)."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(DetectConfig, CommonConfig):
    """det train: learn a detector from images."""

    model: str = knob(MODELS[0], "Run")
    """A model name (yolo26n, yolo11s, yolov8m, yolov9s, yolox_tiny, ...) or a checkpoint to start
    from."""
    data: str = knob("coco8.yaml", "Data")
    """Data set YAML, or the name of a built-in one (coco8.yaml, shapes.yaml)."""
    epochs: int = knob(100, "Run", low=1)
    """Passes over the training images."""
    time: float | None = knob(None, "Run", low=0.0)
    """Budget in hours: the number of epochs is fitted to it."""
    patience: int = knob(100, "Run", low=0)
    """Stop after this many epochs without a better AP; 0 never stops early."""
    batch: int = knob(16, "Run", low=1)
    """Images a step, over all devices."""
    imgsz: int = knob(640, "Data", low=32)
    """Side of the square network input in pixels; rounded up to a multiple of the stride."""
    seed: int = knob(0, "Run", low=0)
    """Seed of initial weights, order and augmentation."""
    deterministic: bool = knob(True, "Run")
    """Ask torch for deterministic kernels where it has them."""
    resume: str | None = knob(None, "Run")
    """True: go on with the newest run of the project; or a run folder or its last checkpoint."""
    save: bool = knob(True, "Run")
    """Write checkpoints."""
    save_dtype: str = knob("fp32", "Run", choices=("fp32", "fp16"))
    """Number format of weights to deploy; fp16 halves the file (norms and biases stay fp32)."""
    save_period: int = knob(-1, "Run", low=-1)
    """Keep an extra checkpoint every so many epochs; -1 keeps none."""
    save_steps: int = knob(0, "Run", low=0)
    """Also write the last checkpoint every so many steps inside an epoch; 0 writes it at epoch ends
    only."""
    val: bool = knob(True, "Run")
    """Validate after every epoch; False validates after the last one only."""
    split: str = knob("val", "Data", choices=("train", "val", "test"))
    """Split to validate on."""
    plots: bool = knob(True, "Run")
    """Write pictures into the run folder."""

    amp: str = knob("auto", "Precision", choices=("auto", "true", "false", "fp16", "bf16", "fp32"))
    """Mixed precision: True (or auto) takes what is safe and faster on this device, False is fp32;
    or name one."""
    amp_check: bool = knob(True, "Precision")
    """Compare candidate precisions with fp32 on this model, data and device before training."""
    amp_force: bool = knob(False, "Precision")
    """Use the named precision even where it is known to be slow or failed the check."""
    channels_last: bool = knob(True, "Precision")
    """Keep images and features in channels-last memory: faster convolutions on most devices."""
    compile: bool = knob(False, "Precision")
    """Compile the model with torch.compile (minutes at the start; pays off in long runs on a
    GPU)."""

    download: bool = knob(True, "Data")
    """Allow a built-in data set to be downloaded where it is not on disk."""
    cache: str = knob("auto", "Data", choices=("auto", "ram", "disk", "none"))
    """Where decoded images are kept: ram, disk (a memory-mapped file in the cache folder), none;
    auto by size."""
    workers: int | None = knob(None, "Data", low=0)
    """Loader processes. Default: chosen from the cores and the device. The result does not depend
    on it."""
    fraction: float = knob(1.0, "Data", low=0.0, high=1.0)
    """Share of the training images to use (evenly spread)."""
    single_cls: bool = knob(False, "Data")
    """Treat all classes as one."""

    pretrained: str | None = knob(None, "Model")
    """Weights to start from, as far as they fit: a checkpoint, or a name that det weights list
    shows; False: none. Default: those of the model's name, where the list has them."""
    freeze: str | None = knob(None, "Model")
    """Stages to freeze: a number (the first N) or names separated by commas."""

    optimizer: str = knob("auto", "Optimizer", choices=("auto", "SGD", "AdamW", "MuSGD"))
    """Optimizer; auto fills in what is not given (lr0, momentum too) and prints what it picked."""
    lr0: float | None = knob(None, "Optimizer", low=0.0)
    """Peak learning rate. Default: by optimizer."""
    lr_transferred: float = knob(0.25, "Optimizer", low=0.0, high=1.0)
    """Learning rate of transferred weights as a share of lr0."""
    lrf: float = knob(0.01, "Optimizer", low=0.0, high=1.0)
    """Final learning rate as a share of lr0."""
    momentum: float | None = knob(None, "Optimizer", low=0.0, high=1.0)
    """SGD momentum, or Adam's beta1. Default: by optimizer."""
    weight_decay: float | None = knob(None, "Optimizer", low=0.0)
    """Decay of weights (not of norms and biases). Default: by optimizer."""
    schedule: str = knob("flat_cosine", "Optimizer", choices=("flat_cosine", "cosine", "linear"))
    """Shape of the learning rate after the warm-up."""
    cos_lr: bool = knob(False, "Optimizer")
    """The same as schedule=cosine."""
    warmup_epochs: float | None = knob(None, "Optimizer", low=0.0)
    """Epochs of rising learning rate. Default: relative to the length of the run."""
    nbs: int | None = knob(None, "Optimizer", low=1)
    """Nominal batch: gradients of smaller batches are accumulated up to it. Default: 16."""
    clip: float = knob(10.0, "Optimizer", low=0.0)
    """Largest norm of the gradient; 0 does not clip."""
    ema: bool = knob(True, "Optimizer")
    """Keep an exponential moving average of the weights; it is what is validated and saved as
    best."""
    ema_decay: float | None = knob(None, "Optimizer", low=0.0, high=1.0)
    """Decay of the average for one step. Default: relative to the length of the run."""

    box: float = knob(7.5, "Loss", low=0.0)
    """Gain of the box loss (CIoU)."""
    cls: float = knob(0.5, "Loss", low=0.0)
    """Gain of the classification loss (BCE)."""
    dfl: float = knob(1.5, "Loss", low=0.0)
    """Gain of the distance loss: L1, or the distribution focal loss where the family has one."""

    hsv_h: float = knob(0.015, "Augmentation", low=0.0, high=1.0)
    """Largest shift of hue, as a share of the circle."""
    hsv_s: float = knob(0.7, "Augmentation", low=0.0, high=1.0)
    """Largest relative change of saturation."""
    hsv_v: float = knob(0.4, "Augmentation", low=0.0, high=1.0)
    """Largest relative change of brightness."""
    degrees: float = knob(0.0, "Augmentation", low=0.0, high=180.0)
    """Largest rotation in degrees."""
    translate: float = knob(0.1, "Augmentation", low=0.0, high=1.0)
    """Largest shift as a share of the image."""
    scale: float = knob(0.5, "Augmentation", low=0.0, high=0.99)
    """Zoom between 1 - scale and 1 + scale."""
    shear: float = knob(0.0, "Augmentation", low=0.0, high=89.0)
    """Largest shear in degrees."""
    flipud: float = knob(0.0, "Augmentation", low=0.0, high=1.0)
    """Probability of an upside-down flip."""
    fliplr: float = knob(0.5, "Augmentation", low=0.0, high=1.0)
    """Probability of a left-right flip."""
    mosaic: float = knob(1.0, "Augmentation", low=0.0, high=1.0)
    """Probability of composing four images into one."""
    mixup: float = knob(0.0, "Augmentation", low=0.0, high=1.0)
    """Probability of blending two images."""
    multi_scale: float = knob(0.0, "Augmentation", low=0.0, high=0.9)
    """Input size varies by this share around imgsz, batch by batch."""
    close_mosaic: int | None = knob(None, "Augmentation", low=0)
    """Last epochs without mosaic and mixup. Default: relative to the length of the run."""
    augment_device: str = knob("auto", "Augmentation", choices=("auto", "cpu", "cuda"))
    """Where training images are drawn: cpu, or cuda with all images in the card's memory; auto
    takes the card of the run where they fit a quarter of what is free there."""


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


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(CommonConfig):
    """What is looked at without learning from it for long: a model, its data, a batch."""

    model: str = knob(MODELS[0], "Run")
    """A model name (fresh weights; nothing is fetched) or a checkpoint."""
    data: str = knob("coco8.yaml", "Data")
    """Data set YAML, or the name of a built-in one (coco8.yaml, shapes.yaml)."""
    imgsz: int = knob(640, "Data", low=32)
    """Side of the square network input in pixels; rounded up to a multiple of the stride."""
    batch: int = knob(16, "Run", low=1)
    """Images a step."""
    seed: int = knob(0, "Run", low=0)
    """Seed of initial weights and augmentation."""
    channels_last: bool = knob(True, "Precision")
    """Keep images and features in channels-last memory, as training does by default."""
    download: bool = knob(True, "Data")
    """Allow a built-in data set to be downloaded where it is not on disk."""
    plots: bool = knob(True, "Outputs")
    """Write the picture into the run folder."""


@dataclass(frozen=True, kw_only=True)
class AmpConfig(ProbeConfig):
    """det amp: find out which precision is right and fast here, layer by layer."""

    amp: str = knob("auto", "Precision", choices=("auto", "true", "false", "fp16", "bf16", "fp32"))
    """What to examine: True (or auto) all that this device computes natively, False only fp32; or
    name one."""
    amp_force: bool = knob(False, "Precision")
    """Examine the named precision even where it is known to be slow or broken."""


@dataclass(frozen=True, kw_only=True)
class BenchAmpConfig(ProbeConfig):
    """det bench amp: train some steps in each precision, side by side, and compare the cost."""

    steps: int = knob(20, "Run", low=1)
    """Training steps in each precision, all from the same weights on the same batches."""
    rounds: int = knob(5, "Run", low=1)
    """Turns that the steps are split into; the precisions alternate."""
    precisions: str | None = knob(None, "Precision")
    """Which to compare with fp32, separated by commas: tf32, bf16, fp16. Default: all that this
    device computes natively."""
    largest_batch: bool = knob(True, "Run")
    """Look for the largest batch that fits, in powers of two (CUDA only)."""
