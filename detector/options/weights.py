"""The options of ``det weights`` and ``det info``."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass

from .fields import option
from .shared import DownloadConfig, RunsConfig, accept_license, offline


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """det info: describe this machine, a model or a checkpoint."""

    model: str | None = option(
        None, "Run", "A model name or a checkpoint. Default: describe this machine.")


@dataclass(frozen=True, kw_only=True)
class WeightsListConfig:
    """det weights list: list the pretrained weights that can be downloaded."""

    bench: bool = option(
        False, "Run", "Measure the milliseconds per image of every model on this machine. They are "
        "kept in the weights folder.")


@dataclass(frozen=True, kw_only=True)
class WeightsInfoConfig:
    """det weights info: show what a checkpoint says about itself, without running code in it."""

    model: str | None = option(
        None, "Run", "A checkpoint of det or another project, or a name from det weights list.")


@dataclass(frozen=True, kw_only=True)
class WeightsConvertConfig(DownloadConfig):
    """det weights convert: convert a checkpoint or ONNX file of another project to one of det."""

    file: str | None = option(
        None, "Run", "The .pt, .pth or .onnx file to read. No code in it is run.")
    out: str | None = option(None, "Output", "The .safetensors file to write. It must not exist.")
    license: str | None = option(
        None, "Run", "License of the weights in an ONNX file, as their publisher states it "
        "(Apache-2.0). Needed where the file does not say it.")
    origin: str | None = option(
        None, "Run", "Where an ONNX file comes from, such as its address. It is kept in the "
        "checkpoint.")
    data: str | None = option(
        None, "Data", "Data set on whose training images the batch norms of an ONNX file are "
        "measured. Default: det train measures them when it begins.")
    offline: bool = offline()


@dataclass(frozen=True, kw_only=True)
class WeightsDownloadConfig:
    """det weights download: download pretrained weights into the weights folder."""

    model: str | None = option(None, "Run", "A name from det weights list.")
    offline: bool = offline()
    accept_license: str | None = accept_license()


@dataclass(frozen=True, kw_only=True)
class WeightsCheckConfig(DownloadConfig, RunsConfig):
    """det weights check: measure pretrained weights on COCO and compare with the published AP."""

    model: str | None = option(None, "Run", "A name from det weights list.")
    data: str | None = option(
        None, "Data", "Data set with the images of COCO val2017 in its val split: YAML, folder or "
        "COCO JSON.")
    batch: int = option(16, "Run", "Images per step.", low=1)
    device: str | None = option(
        None, "Run", "Where to run: cpu, cuda, 0, 1 or mps. Default: the first GPU, or the CPU.")
    workers: int | None = option(
        None, "Data", "Number of loader processes. Default: chosen from the CPU cores.", low=0)
