"""The options of ``det export`` and ``det bench export``."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .fields import option
from .shared import CommonConfig, DetectConfig, PlotsConfig, RunsConfig, SplitConfig, checkpoint


def _batch() -> Any:
    return option(1, "Run", "Images per call.", low=1, high=4096)


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig(SplitConfig):
    """How 8-bit files are calibrated and judged."""

    calibration: str = option(
        "minmax", "Precision", "How value ranges are found from the calibration images. Only used "
        "with int8=True.", choices=("minmax", "entropy", "percentile"))
    seed: int = option(
        0, "Precision", "Seed for choosing the calibration images from the training images. Only "
        "used with int8=True.", low=0)
    max_drop: float = option(
        0.01, "Precision", "AP that quantization may cost. int8=True keeps layers in float until "
        "the loss is smaller.", low=0.0, high=1.0)
    fraction: float = option(
        1.0, "Data", "Share of the images of data= to use, evenly spread, for the comparison and "
        "the calibration.", low=0.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class ExportConfig(QuantizeConfig, DetectConfig, RunsConfig):
    """det export: write a checkpoint for another runtime and compare the file with it."""

    model: str | None = checkpoint()
    format: str = option(
        "onnx", "Run", "Format to write: onnx, torchscript, torch_export, openvino, tflite, coreml "
        "or tensorrt; several are separated by commas.")
    output: str | None = option(
        None, "Output", "File to write, or a folder for several formats. Default: beside the "
        "checkpoint, with the same name.")
    device: str | None = option(
        None, "Run", "Device for tracing and comparing: cpu, cuda or 0. Default: the CPU. "
        "half=True on a GPU computes in float16.")
    imgsz: int | tuple[int, ...] | None = option(
        None, "Data", "Input size in pixels: one side, or height,width. Default: the checkpoint's.",
        low=1)
    batch: int = _batch()
    dynamic: bool = option(
        False, "Run", "Accept any batch, and any size that is a multiple of the stride.")
    uint8: bool = option(False, "Run", "Take images as uint8 in 0..255 instead of float32 in 0..1.")
    opset: int = option(
        18, "Run", "ONNX operator set (onnx, and openvino and tensorrt, which are made from it). "
        "Below 18 for older runtimes; int8=True needs 13.", low=12, high=23)
    raw: bool | str = option(
        False, "Detections", "Return the boxes and scores of every anchor point instead of "
        "finished detections. output0 returns them as one tensor output0 [B,4+C,A] (center, width "
        "and height in pixels, then a score per class), as most readers of YOLO files expect.",
        choices=(False, True, "output0"))
    data: str | None = option(
        None, "Data", "Data set YAML to compare on, AP included. Default: four drawn scenes, boxes "
        "only.")
    half: bool = option(False, "Precision", "Store weights in float16: half the file size.")
    int8: bool | str = option(
        False, "Precision", "Quantization. True computes in 8-bit integers and is calibrated with "
        "training images of data=. weights only stores the weights in 8 bits and needs no data. "
        "dynamic (tflite, torch_export) also rounds the inputs of each layer at run time and needs "
        "no data.",
        choices=(False, True, "weights", "dynamic"))


@dataclass(frozen=True, kw_only=True)
class BenchExportConfig(QuantizeConfig, PlotsConfig, CommonConfig):
    """det bench export: write a checkpoint in every format and precision, and compare the files."""

    model: str | None = checkpoint()
    formats: str | None = option(
        None, "Run", "Files to compare, separated by commas: onnx, onnx-fp16, onnx-int8, openvino, "
        "torchscript ... Default: all that can be written and run here (int8 only with data=).")
    device: str | None = option(
        None, "Run", "Device for tracing and comparing. Only cpu is supported.")
    imgsz: int | None = option(
        None, "Data", "Side of the input in pixels. Default: the checkpoint's.", low=32, high=8192)
    batch: int = _batch()
    rounds: int = option(5, "Run", "Timing rounds per file; the files are interleaved.", low=1)
    runs: int = option(20, "Run", "Runs of a file per round.", low=1)
    data: str | None = option(
        None, "Data", "Data set YAML to measure the AP on and to calibrate int8 with. Default: AP "
        "is not measured.")
