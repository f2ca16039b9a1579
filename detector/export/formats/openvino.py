"""OpenVINO IR, for Intel's CPUs, GPUs and NPUs: ``NAME.xml`` and, beside it, ``NAME.bin``; both in
a folder ``NAME_openvino_model`` with ``metadata.yaml`` (``foreign.py``), unless a file was named.

float16 is for storage; the CPU plugin computes in float32 unless told otherwise.  Metadata are
``rt_info`` of the model, under ``det``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch

from ....files.telemetry import refuse_package
from ...options.formats import ExportError
from ..graph import ExportGraph
from . import onnx
from .interface import Runner, Settings
from .signal_stack import same_signal_stack

SECTION = "det"
REPORTS = "openvino_telemetry"
"""Sends each conversion to Google Analytics, from a forked process that can hang without a
network."""


def write(graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]) -> None:
    """Write the two files, converted from the ONNX graph."""
    with tempfile.TemporaryDirectory() as folder:
        middle = Path(folder) / "graph.onnx"
        onnx.write(graph, middle, Settings(settings.shape, opset=settings.opset), {})
        convert(middle, path, texts, half=settings.precision == "fp16")


def _openvino() -> Any:
    """The package, without the one by which it reports."""
    refuse_package(REPORTS)
    import openvino

    return openvino


def convert(source: Path, path: Path, texts: Mapping[str, str], *, half: bool = False) -> None:
    """Convert an ONNX file, with ``texts`` as metadata.  half: store weights in float16."""
    openvino = _openvino()
    model = openvino.convert_model(source)
    for name, text in texts.items():
        model.set_rt_info(text, [SECTION, name])
    openvino.save_model(model, path, compress_to_fp16=half)


def read_about(path: Path) -> dict[str, str]:
    """The section of ``rt_info``.  Raises ExportError for a file that is not an OpenVINO IR."""
    section = _parse(path).find(f"rt_info/{SECTION}")
    return {entry.tag: entry.get("value", "") for entry in section} if section is not None else {}


def output_shape(path: Path) -> list[int]:
    """The shape of the first output, 0 for a free side.  Raises ExportError as ``read_about``."""
    port = _parse(path).find("layers/layer[@type='Result']/input/port")
    sides = [dim.text or "" for dim in port.findall("dim")] if port is not None else []
    return [int(side) if side.isascii() and side.isdigit() else 0 for side in sides]


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} is not a whole OpenVINO file ({error})") from error


def open_file(path: Path, device: torch.device, threads: int | None = None) -> Runner:
    """A model compiled for the CPU, in float32.  Raises ExportError."""
    openvino = _openvino()
    if device.type != "cpu":
        raise ExportError(f"device={device}: det runs OpenVINO files on the CPU; use device=cpu")
    settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        # pinned, two such files in one process would wait for the same first core
        settings |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    if not path.with_suffix(".bin").is_file():
        raise ExportError(f"{path} needs {path.with_suffix('.bin').name} beside it")
    try:
        with same_signal_stack():
            compiled = openvino.Core().compile_model(path, "CPU", settings)
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[-1]
        raise ExportError(f"{path}: OpenVINO cannot load it ({reason})") from error
    request = compiled.create_infer_request()

    def run(images: np.ndarray) -> list[np.ndarray]:
        found = request.infer([images])
        return [found[output].copy() for output in compiled.outputs]

    return run
