"""The options of ``det compress``: those of ``det prune`` with its trainings, and the goal."""

# fmt: off: one option per paragraph
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .fields import option
from .prune import PruneConfig

TARGETS = ("onnx", "openvino", "tflite", "torch_export")
"""Formats that det writes in 8 bits."""


@dataclass(frozen=True, kw_only=True)
class CompressConfig(PruneConfig):
    """det compress: make a trained detector small and fast: prune, quantize, export, compare."""

    model: str | None = option(
        None, "Run", "Checkpoint to compress, or a run folder. Default: the best weights of the "
        "newest run in project=.")
    target: str = option(
        "onnx", "Run", "Format of the files: onnx, openvino, tflite or torch_export.",
        choices=TARGETS)
    max_drop: float = option(
        0.01, "Run", "AP that the file to deploy may lose against the checkpoint in fp32.",
        low=0.0, high=1.0)
    teacher: str | None = option(
        None, "Model", "Checkpoint that the pruned and the quantized detector learn from "
        "(distillation). Default: the checkpoint that is compressed.")
    without: ClassVar[Mapping[str, str]] = {
        **PruneConfig.without, "qat": "it is a part of det compress",
    }
    resume: bool | str | None = option(
        None, "Run", "Go on with a compression that was stopped: its run folder, or True for the "
        "newest one in project=.")


COMPRESSION = ("target", "max_drop", "resume")
"""Options of the compression itself, which its pruning does not have."""
