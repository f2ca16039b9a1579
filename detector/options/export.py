"""The knobs of det export and det bench export, in the manner of ``config.py``."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import knob
from .shared import CommonConfig, DetectConfig


@dataclass(frozen=True, kw_only=True)
class ExportConfig(DetectConfig):
    """det export: write a checkpoint for another runtime, and prove that it answers the same."""

    model: str | None = knob(None, "Run")
    """Checkpoint to export. Default: the best weights of the newest run of the project."""
    format: str = knob("onnx", "Run")
    """What to write: onnx, torchscript, torch_export, openvino, tflite, coreml, tensorrt; several
    separated by commas."""
    output: str | None = knob(None, "Outputs")
    """File to write (with several formats: a folder). Default: beside the checkpoint, under its
    name."""
    device: str | None = knob(None, "Run")
    """Where to trace and compare: cpu, cuda, 0. Default: the CPU. half=True on a GPU computes in
    float16."""
    project: str = knob("runs", "Run")
    """Folder that holds the run folders, to look for the newest."""
    verbose: bool = knob(True, "Run")
    """Print progress and tables on stderr; False leaves only warnings."""
    offline: bool = knob(False, "Run")
    """Fetch no weights and no data set: what is not on disk is an error."""
    accept_license: str | None = knob(None, "Run")
    """Name of a licence to agree to, where weights to be downloaded ask for it."""

    imgsz: str | None = knob(None, "Data")
    """Size of the input in pixels: a side, or height,width. Default: the checkpoint's."""
    batch: int = knob(1, "Run", low=1, high=4096)
    """Images at once."""
    dynamic: bool = knob(False, "Run")
    """Any batch, and any size in multiples of the stride, from one file."""
    uint8: bool = knob(False, "Run")
    """Take images as uint8 in 0..255 instead of float32 in 0..1."""
    opset: int = knob(18, "Run", low=18, high=23)
    """Version of ONNX's operators (onnx, and what is made from it: openvino, tensorrt)."""
    raw: bool = knob(False, "Detections")
    """Answer with boxes and scores of every anchor point instead of finished detections."""

    data: str | None = knob(None, "Data")
    """Data set YAML to compare on, AP included. Default: four drawn scenes, boxes only."""
    split: str = knob("val", "Data", choices=("train", "val", "test"))
    """Split of data= to compare on."""
    fraction: float = knob(1.0, "Data", low=0.0, high=1.0)
    """Share of the images of data= to use (evenly spread); with int8=True also of the training
    images to calibrate with."""
    download: bool = knob(True, "Data")
    """Allow a built-in data set to be downloaded where it is not on disk."""

    half: bool = knob(False, "Precision")
    """Store weights in float16: a file of half the size."""
    int8: str = knob("false", "Precision", choices=("false", "true", "weights", "dynamic"))
    """Quantize: True computes in 8-bit integers, calibrated with training images of data=; weights
    only stores weights in 8 bits and needs no data; dynamic (tflite) stores weights so and rounds
    what comes into a layer on the fly, without data too."""
    calibration: str = knob("minmax", "Precision", choices=("minmax", "entropy", "percentile"))
    """How ranges are found from calibration images (only with int8=True)."""
    seed: int = knob(0, "Precision", low=0)
    """Which training images are drawn for calibration (only with int8=True)."""
    max_drop: float = knob(0.01, "Precision", low=0.0, high=1.0)
    """AP that quantizing may cost; int8=True leaves layers in float until it holds."""


@dataclass(frozen=True, kw_only=True)
class BenchExportConfig(CommonConfig):
    """det bench export: write a checkpoint in every format and precision, and compare the files."""

    model: str | None = knob(None, "Run")
    """Checkpoint to compare the files of. Default: the best weights of the newest run of the
    project."""
    formats: str | None = knob(None, "Run")
    """What to compare, separated by commas: onnx, onnx-fp16, onnx-int8, openvino, torchscript ...
    Default: all that can be written and run here (int8 only with data=)."""
    device: str | None = knob(None, "Run")
    """Where to trace and compare. Only the CPU is measured."""
    imgsz: int | None = knob(None, "Data", low=32, high=8192)
    """Side of the input in pixels. Default: the checkpoint's."""
    batch: int = knob(1, "Run", low=1, high=4096)
    """Images at once."""
    rounds: int = knob(5, "Run", low=1)
    """Turns of each file; the files alternate."""
    runs: int = knob(20, "Run", low=1)
    """Runs of a file in each of its turns."""

    data: str | None = knob(None, "Data")
    """Data set YAML to measure the AP on, and to calibrate int8 with. Default: AP is not
    measured."""
    split: str = knob("val", "Data", choices=("train", "val", "test"))
    """Split of data= to measure the AP on."""
    fraction: float = knob(1.0, "Data", low=0.0, high=1.0)
    """Share of the images of data= to use."""
    download: bool = knob(True, "Data")
    """Allow a built-in data set to be downloaded where it is not on disk."""
    calibration: str = knob("minmax", "Precision", choices=("minmax", "entropy", "percentile"))
    """How the ranges of int8 are found."""
    max_drop: float = knob(0.01, "Precision", low=0.0, high=1.0)
    """AP that int8 may cost: layers are left in float until it holds."""
    seed: int = knob(0, "Precision", low=0)
    """Which training images are drawn for calibration."""
    plots: bool = knob(True, "Outputs")
    """Draw the comparison."""
