"""The options of ``det train``.

``None`` as a default means: chosen from the data, the model or the device when the command runs,
and the choice is printed.
"""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass

from .fields import option
from .shared import CommonConfig, DetectConfig, LoaderConfig, StartConfig, TileConfig, amp_fp32

AUTO_SHARE = 0.95
"""Of the free memory, with ``batch=auto``: batches differ in their boxes, and so in their needs."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(StartConfig, LoaderConfig, TileConfig, DetectConfig, CommonConfig):
    """det train: train a detector on images."""

    epochs: int = option(100, "Run", "Number of passes over the training images.", low=1)
    time: float | None = option(
        None, "Run", "Time limit in hours; det chooses the number of epochs to fit it.", low=0.0)
    patience: int = option(
        100, "Run", "Stop after this many epochs without better best weights (see best=). 0 never "
        "stops early.", low=0)
    best: str = option(
        "map", "Run", "Metric that chooses the best weights: map (AP), map50, map75, precision, "
        "recall, f1, or class:NAME (AP of one class).")
    folds: int | None = option(
        None, "Run", "Cross-validation: train this many times, each time with another part of "
        "train to validate on. Parts have equal shares of each class, and share no picture.",
        low=2)
    seeds: int = option(
        1, "Run", "Train this many times, with seed, seed+1, ...: how much of an AP is luck.",
        low=1)
    batch: str | float | int = option(
        16, "Run", "Images per step, over all devices. auto measures the largest batch that fits "
        "into memory; a share such as 0.8 the one that fits into that share of it.",
        low=1, or_share=True)
    micro_batch: int | None = option(
        None, "Run", "Images per forward pass, over all devices: a batch goes through in parts, "
        "and the gradients add up. Default: the whole batch; when memory runs out, the run halves "
        "it and goes on.", low=1)
    memory: str | None = option(
        None, "Run", "Memory that training may take, with its unit (8GiB, 800MiB), or auto: what "
        "is free. A run that needs more is made to fit, as far as needed: half precision, stages "
        "computed again, micro-batches, optimizer state in bf16. Each is measured and printed.")
    dry_run: bool = option(
        False, "Run", "Only say what the run would be: data, model, precision, and the memory it "
        "needs. Nothing is trained or written.")
    deterministic: bool = option(True, "Run", "Use deterministic kernels where torch has them.")
    log: str | None = option(
        None, "Run", "Tools that record the run, separated by commas: tensorboard, wandb, mlflow "
        "(each an extra), json (events on stdout).")
    resume: bool | str | None = option(
        None, "Run", "Continue a stopped run: True for the newest run in project=, or a run folder "
        "or its last.pt.")
    save: bool = option(True, "Run", "Write checkpoints.")
    save_dtype: str = option(
        "fp32", "Run", "Number format of the saved weights. fp16 halves the file; norms and biases "
        "stay fp32.", choices=("fp32", "fp16"))
    save_period: int = option(
        -1, "Run", "Keep an extra checkpoint every N epochs. -1 keeps none.", low=-1)
    save_steps: int = option(
        0, "Run", "Write the last checkpoint every N steps too. 0 writes it only at the end of an "
        "epoch.", low=0)
    val: bool | str = option(
        True, "Run", "Validate after every epoch; False: only after the last one. A share of train "
        "that is held out (0.2), a fold of it (2of5), or a folder, list or COCO JSON: what to "
        "validate on.")

    save_state: bool = option(
        False, "Run", "Also keep the training state of one epoch, picked at random "
        "(weights/state.pt, as large as last.pt): det verify replays steps from there, too.")

    amp: bool | str = option(
        "auto", "Precision", "Mixed precision. True or auto uses what is safe and faster on this "
        "device, False uses fp32, a name uses that precision.",
        choices=("auto", True, False, "fp16", "bf16", "fp32"))
    amp_check: bool = option(
        True, "Precision", "Before training, compare each candidate precision with fp32 on this "
        "model, data and device.")
    amp_force: bool = option(
        False, "Precision", "Use the named precision even if it is known to be slow or fails the "
        "check.")
    amp_fp32: tuple[str, ...] | None = amp_fp32()
    compile: bool = option(
        False, "Precision", "Compile the model with torch.compile: minutes at the start, faster "
        "steps in long GPU runs.")
    checkpointing: bool | tuple[str, ...] = option(
        False, "Precision", "Keep only the inputs of the stages and compute them again in the "
        "backward pass: less memory for more time, the same results. True for all stages, or "
        "names of stages or parts (backbone, neck), separated by commas.")
    sync_bn: bool = option(
        False, "Precision", "With several GPUs, normalize over the images of all of them "
        "(SyncBatchNorm): for few images per GPU.")

    qat: str | None = option(
        None, "Precision", "Quantization-aware training: continue a trained float checkpoint with "
        "simulated 8-bit weights and activations, so that its int8 files lose nothing.",
        choices=("int8",))

    cache: str = option(
        "auto", "Data", "Where decoded images are kept: ram, disk (a memory-mapped file in the "
        "cache folder) or none. auto chooses by their size.",
        choices=("auto", "ram", "disk", "none"))
    pixels: str = option(
        "auto", "Data", "How images of more than 8 bits become 8: minmax (range of each image), "
        "percentile (without the outermost 0.1 % at each end), raw (divided by 256). auto is "
        "percentile for them and leaves images of 8 bits as they are. val, predict and export "
        "follow.", choices=("auto", "minmax", "percentile", "raw"))
    channels: int | None = option(
        None, "Data", "Channels of the input: 1 builds a detector for gray images, and takes the "
        "luma of others; 3 is RGB. Default: as the weights it starts from, else 3. val, predict "
        "and export follow.")
    balance: bool | float = option(
        False, "Data", "Draw images of rare classes more often (repeat-factor sampling). A number "
        "is the share of the images below which a class is rare; True takes the median of the "
        "classes.", low=0.0, high=1.0)
    empty_tiles: float = option(
        0.25, "Data", "With tile=, how many tiles without an object are trained on, for each with "
        "one.", low=0.0)
    fraction: float = option(
        1.0, "Data", "Share of the training images to use, evenly spread.", low=0.0, high=1.0)

    pretrained: bool | str | None = option(
        None, "Model", "Weights to start from, as far as they fit: a checkpoint or a name from det "
        "weights list. False starts from random weights. Default: the weights of the model's name, "
        "if listed.")
    keep_classes: bool = option(
        False, "Model", "Keep the classes of the weights beside those of data=: the detector knows "
        "both.")
    replay: str | None = option(
        None, "Model", "With keep_classes=True, data with the old classes to train on too, so that "
        "they are not forgotten: a small sample is enough.")
    freeze: int | tuple[str, ...] | None = option(
        None, "Model", "What to freeze, separated by commas: names of stages (backbone, neck), or "
        "numbers of layers as Ultralytics counts them; one number N means the first N layers.")

    teacher: str | None = option(
        None, "Model", "Trained detector to learn from beside the labels (distillation): a "
        "checkpoint, or a name from det weights list, that knows the classes of the run. Usually a "
        "larger one.")
    distill: float = option(
        1.0, "Loss", "Gain of what is learned from teacher=.", low=0.0)

    optimizer: str = option(
        "auto", "Optimizer", "Optimizer. auto chooses it, with lr0 and momentum where they are not "
        "given, and prints the choice.", choices=(
            "auto", "SGD", "AdamW", "MuSGD", "Adam", "NAdam", "RAdam", "Adamax", "RMSProp"))
    optimizer_state: str = option(
        "fp32", "Optimizer", "Number format of the optimizer's momenta between updates. bf16 takes "
        "half the memory; an update computes in fp32 and rounds at random, right on average.",
        choices=("fp32", "bf16"))
    lr0: float | None = option(
        None, "Optimizer", "Peak learning rate. Default: depends on the optimizer.", low=0.0)
    lr_transferred: float | None = option(
        None, "Optimizer", "Learning rate of transferred weights as a share of lr0. Default: 0.1 "
        "if they already find the objects of the data, else 0.25; 0.01 with qat=.", low=0.0,
        high=1.0)
    lrf: float = option(
        0.01, "Optimizer", "Final learning rate as a share of lr0.", low=0.0, high=1.0)
    momentum: float | None = option(
        None, "Optimizer", "Momentum of SGD, or Adam's beta1. Default: depends on the optimizer.",
        low=0.0, high=1.0)
    weight_decay: float | None = option(
        None, "Optimizer", "Decay of weights (not of norms and biases). Default: depends on the "
        "optimizer.", low=0.0)
    schedule: str = option(
        "flat_cosine", "Optimizer", "Shape of the learning rate after the warm-up.",
        choices=("flat_cosine", "cosine", "linear"))
    cos_lr: bool = option(False, "Optimizer", "The same as schedule=cosine.")
    warmup_epochs: float | None = option(
        None, "Optimizer", "Epochs of rising learning rate. Default: a share of the run.", low=0.0)
    nbs: int | None = option(
        None, "Optimizer", "Nominal batch size: gradients of smaller batches are accumulated up to "
        "it. Default: 16.", low=1)
    clip: float = option(
        10.0, "Optimizer", "Maximum norm of the gradient. 0 turns clipping off.", low=0.0)
    ema: bool = option(
        True, "Optimizer", "Keep an exponential moving average of the weights (EMA); it is "
        "validated and saved as best.")
    ema_decay: float | None = option(
        None, "Optimizer", "Decay of the average per step. Default: depends on the length of the "
        "run.", low=0.0, high=1.0)

    box: float = option(7.5, "Loss", "Gain of the box loss (CIoU).", low=0.0)
    cls: float = option(0.5, "Loss", "Gain of the classification loss (BCE).", low=0.0)
    dfl: float = option(
        1.5, "Loss", "Gain of the distance loss: L1, or the distribution focal loss where the "
        "model has one.", low=0.0)

    class_weights: str | None = option(
        None, "Loss", "Weights of classes in the classification loss: balanced, or names with "
        "numbers (rare:2,common:0.5; others have 1). balanced weights by the number of boxes.")

    hsv_h: float = option(
        0.015, "Augmentation", "Maximum shift of the hue, as a share of the color circle.",
        low=0.0, high=1.0)
    hsv_s: float = option(
        0.7, "Augmentation", "Maximum relative change of the saturation.", low=0.0, high=1.0)
    hsv_v: float = option(
        0.4, "Augmentation", "Maximum relative change of the brightness.", low=0.0, high=1.0)
    degrees: float = option(
        0.0, "Augmentation", "Maximum rotation in degrees.", low=0.0, high=180.0)
    translate: float = option(
        0.1, "Augmentation", "Maximum shift as a share of the image.", low=0.0, high=1.0)
    scale: float = option(
        0.5, "Augmentation", "Zoom by a factor between 1 - scale and 1 + scale.",
        low=0.0, high=0.99)
    shear: float = option(0.0, "Augmentation", "Maximum shear in degrees.", low=0.0, high=89.0)
    flipud: float = option(
        0.0, "Augmentation", "Probability of flipping the image upside down.", low=0.0, high=1.0)
    fliplr: float = option(
        0.5, "Augmentation", "Probability of flipping the image left to right.", low=0.0, high=1.0)
    mosaic: float = option(
        1.0, "Augmentation", "Probability of composing four images into one.", low=0.0, high=1.0)
    mixup: float = option(
        0.0, "Augmentation", "Probability of blending two images.", low=0.0, high=1.0)
    multi_scale: float = option(
        0.0, "Augmentation", "Vary the input size by this share around imgsz, batch by batch.",
        low=0.0, high=0.9)
    close_mosaic: int | None = option(
        None, "Augmentation", "Number of last epochs without mosaic and mixup. Default: a share of "
        "the run.", low=0)
    augment_device: str = option(
        "auto", "Augmentation", "Where training images are augmented: cpu, or cuda with all images "
        "in GPU memory. auto uses the GPU of the run if the images fit a quarter of its free "
        "memory.", choices=("auto", "cpu", "cuda"))

    @property
    def batch_size(self) -> int:
        """``batch=`` as a number: images per step; 16 before it is measured."""
        return self.batch if isinstance(self.batch, int) else 16

    @property
    def images_per_pass(self) -> int:
        """Images of all ranks per forward pass, 16 before they are measured."""
        return min(self.batch_size, self.micro_batch or self.batch_size)

    @property
    def memory_share(self) -> float | None:
        """The share of the free memory that a step may take, None where ``batch=`` is a number."""
        if isinstance(self.batch, int):
            return None
        return self.batch if isinstance(self.batch, float) else AUTO_SHARE
