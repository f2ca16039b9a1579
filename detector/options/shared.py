"""Options that several commands have, each described once."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .detect import DetectOptions
from .fields import option
from .names import MODELS

if TYPE_CHECKING:
    from ...datasets.sets.source import DataSource


@dataclass(frozen=True, kw_only=True)
class FlagsConfig:
    """Switches that every command understands."""

    json: bool = option(False, "Terminal", "Print one JSON object on stdout and nothing else.")
    quiet: bool = option(
        False, "Terminal", "Print only warnings and the result (the same as verbose=False).")
    debug: bool = option(False, "Terminal", "Show the traceback of an error.")


def built_in_data() -> Any:
    """``data=`` of commands that begin with a data set."""
    return option(
        "coco8.yaml", "Data", "Data set: a YAML, a folder, a COCO JSON, or a built-in name "
        "(coco8.yaml, shapes.yaml, shapes-easy.yaml).")


def offline() -> Any:
    """``offline=``"""
    return option(
        False, "Run", "Do not use the network. Weights and data that are not on disk are an error.")


def accept_license() -> Any:
    """``accept_license=``"""
    return option(
        None, "Run", "Name of a license that you agree to, for weights that ask for it before the "
        "download.")


@dataclass(frozen=True, kw_only=True)
class RunsConfig:
    """Options of commands that compute with weights and use runs."""

    project: str = option("runs", "Run", "Folder that holds the run folders.")
    threads: int | None = option(
        None, "Run", "Threads that compute on a CPU. Default: OMP_NUM_THREADS, or every core that "
        "this process may use.", low=1)
    verbose: bool = option(
        True, "Run", "Print progress and tables on stderr. False leaves only warnings.")
    offline: bool = offline()
    accept_license: str | None = accept_license()


@dataclass(frozen=True, kw_only=True)
class CommonConfig(RunsConfig):
    """Options of commands that run a model and write a run folder."""

    device: str | None = option(
        None, "Run", "Where to run: cpu, cuda, 0, 1 or mps; det train also takes several GPUs "
        "(0,1), and -1 is the GPU with the most free memory. Default: the first GPU, or the CPU "
        "where there is none.")
    name: str | None = option(
        None, "Run", "Name of the run folder. If it exists, -2, -3, ... is added. Default: the "
        "command's name.")
    exist_ok: bool = option(
        False, "Run", "Write into an existing run folder instead of making a new one.")


@dataclass(frozen=True, kw_only=True)
class DetectConfig:
    """How predictions become detections: the same options and code in train, val, predict and
    export."""

    nms: bool = option(
        False, "Detections", "Use the one-to-many head with non-maximum suppression (NMS). False "
        "uses the NMS-free one-to-one head where the model has one (yolo26).")
    iou: float = option(
        0.7, "Detections", "IoU above which NMS removes the box with the lower score. Only used "
        "with NMS.", low=0.0, high=1.0)
    max_det: int = option(
        300, "Detections", "Maximum number of detections per image; with tile=, per tile.", low=1)
    agnostic_nms: bool = option(
        False, "Detections", "Let NMS compare boxes of different classes. Only used with NMS.")

    def detect_options(self, conf: float, classes: tuple[int, ...] | None = None) -> DetectOptions:
        """These options, with the lowest score that counts and the classes to look for."""
        return DetectOptions(
            conf=conf, nms=self.nms, iou=self.iou, max_det=self.max_det,
            agnostic_nms=self.agnostic_nms, classes=classes)


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """Options of commands that read a data set."""

    images: str | None = option(
        None, "Data", "Folder of the images of a COCO JSON. Default: beside it, or in the usual "
        "folders.")
    names: str | None = option(
        None, "Data", "Rename and merge classes, in quotes: 'car,truck->vehicle,bike->bicycle'. "
        "The files stay as they are.")
    allow: str | None = option(
        None, "Data", "errors: go on although the labels look laid out wrongly (corners, pixels, "
        "ids from 1, labels elsewhere).", choices=("errors",))
    download: bool = option(True, "Data", "Download a built-in data set if it is not on disk.")

    @property
    def data_source(self) -> DataSource:
        """What the options say of the data set, and where a share of train is held out, which."""
        from ...datasets.sets.source import DataSource

        val, data = getattr(self, "val", None), getattr(self, "data", None)
        lone = getattr(self, "split", "train") if not hasattr(self, "epochs") else "train"
        held = None if isinstance(val, bool) else val
        return DataSource(str(data), self.images, held, getattr(self, "seed", 0), lone, self.names)

    @property
    def online(self) -> bool:
        """Whether a data set may be downloaded."""
        return self.download and not getattr(self, "offline", False)


@dataclass(frozen=True, kw_only=True)
class SplitConfig(DownloadConfig):
    """Options of commands that measure on a split of a data set."""

    split: str = option("val", "Data", "Split to measure on.", choices=("train", "val", "test"))


@dataclass(frozen=True, kw_only=True)
class ClassesConfig:
    """Options of commands that can work on some of the classes."""

    classes: str | None = option(
        None, "Data", "Use only these classes, in labels and detections: names or numbers "
        "separated by commas. Their numbers stay.")


@dataclass(frozen=True, kw_only=True)
class LoaderConfig(SplitConfig, ClassesConfig):
    """Options of commands that load many images."""

    workers: int | None = option(
        None, "Data", "Number of loader processes; it does not change the result. Default: chosen "
        "from the CPU cores and the device.", low=0)
    single_cls: bool = option(False, "Data", "Treat all classes as one.")


@dataclass(frozen=True, kw_only=True)
class TileConfig:
    """Options of commands that can look at large images in tiles."""

    tile: int | None = option(
        None, "Data", "Cut large images into tiles of this side in pixels, for small objects; 0 "
        "takes whole images. Default: as the checkpoint was trained; det train takes whole images.",
        low=0)
    overlap: float | None = option(
        None, "Data", "With tile=, the share of a tile that its neighbor shows too. Objects that "
        "fit into it are always seen whole. Default: as the checkpoint was trained, else 0.2.",
        low=0.05, high=0.75)


def augment() -> Any:
    """``augment=`` of commands that detect."""
    return option(
        False, "Detections", "Look at each input four times (mirrored, and at other sizes) and "
        "fuse what is found: more accurate, about four times slower.")


@dataclass(frozen=True, kw_only=True)
class LayoutConfig:
    """Options of commands that run the torch model."""

    channels_last: bool = option(
        True, "Precision", "Keep images and features in channels-last memory: faster convolutions "
        "on most devices.")


@dataclass(frozen=True, kw_only=True)
class PlotsConfig:
    """Options of commands that draw their results."""

    plots: bool = option(True, "Output", "Write plots and sample images into the run folder.")
    report: bool = option(
        True, "Output", "Write report.html, the run on one page, into the run folder.")


@dataclass(frozen=True, kw_only=True)
class StartConfig(LayoutConfig, DownloadConfig, PlotsConfig):
    """What a training starts from: model, data, batch and seed."""

    model: str = option(
        MODELS[0], "Run", "A model name (yolo26n, yolo11s, yolov8m, yolov9s, yolox_tiny, ...) or a "
        "checkpoint to start from. det train without it takes pretrained weights that are on disk; "
        "auto downloads some where there are none.")
    data: str = built_in_data()
    imgsz: int | tuple[int, ...] | None = option(
        None, "Data", "Size of the network input in pixels, rounded up to multiples of the stride: "
        "one side, or height,width. Default: the size of the weights it starts from, else 640.",
        low=32)
    rect: bool = option(
        False, "Data", "Cut the padding: the input of an image is no larger than the scaled image "
        "needs, and a batch has images of one shape. Faster where images are not square. val and "
        "predict follow.")
    seed: int = option(
        0, "Run", "Seed of the initial weights, the image order and the augmentation.", low=0)


def checkpoint() -> Any:
    """``model=`` of commands that use a trained model."""
    return option(
        None, "Run", "Checkpoint, exported file, run folder, or name from det weights list. "
        "Default: the best weights of the newest run in project=.")


def input_size() -> Any:
    """``imgsz=`` of commands that use a trained model."""
    return option(
        None, "Data", "Input size in pixels, rounded up to multiples of the stride: one side, or "
        "height,width. Default: the checkpoint's.", low=32)


def amp_fp32() -> Any:
    """``amp_fp32=``"""
    return option(
        None, "Precision", "Stages that compute in fp32 while the others compute in half "
        "precision: names of stages or parts (backbone, neck.mix_up5), separated by commas. "
        "Stages that fail the check are added.")


def rect() -> Any:
    """``rect=`` of commands that use a trained model."""
    return option(
        None, "Data", "Cut the padding of the input to the shape of each image. Default: as in "
        "training.")


@dataclass(frozen=True, kw_only=True)
class TrainedConfig(LayoutConfig):
    """Options of commands that run a trained model."""

    model: str | None = checkpoint()
    amp: bool | str = option(
        "checkpoint", "Precision", "Precision of the forward pass. Default: the precision in which "
        "the checkpoint was validated during training.",
        choices=("checkpoint", "auto", True, False, "fp16", "bf16", "fp32"))
