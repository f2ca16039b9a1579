"""Every knob of every command, once: one frozen dataclass a command, a docstring under each field.

The command line, ``det config``, the docs page and the checks are generated from these classes;
there is no second list. A field is made with ``knob(default, group, ...)``: the group is its
heading in the help, ``low``/``high``/``choices`` are checked for every source of values (command
line, YAML, Python).  ``None`` as a default means: chosen from the data, the model or the device
when the command runs, and the choice is printed.
"""

from __future__ import annotations

from dataclasses import dataclass

from .fields import knob
from .names import MODELS
from .shared import CommonConfig, DetectConfig


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
