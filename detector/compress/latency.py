"""The time of a detector in ONNX Runtime on this machine, as a whole and layer by layer.

The rate of a layer (seconds per channel in and out) is measured with a file of this one
convolution.  It says which layers are slow for what they compute.  What is reached is measured with
whole files, in interleaved rounds.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..export.exported import open_exported
from ..export.formats import onnx as onnx_format
from ..export.formats.interface import Settings
from ..export.graph import ExportGraph, Shape
from ..export.proof.speed import run_interleaved
from ..models.detector import Detector
from ..models.detector_like import sides_of
from .channels import Layer, Trace

ROUNDS, EACH = 5, 4
RUNS = 12
"""Of a file with one convolution; the median counts."""


def seconds_of(
    models: Mapping[str, Detector], image_size: int | tuple[int, int], threads: int | None = None
) -> dict[str, float]:
    """Seconds per image of each model as an ONNX file: the median of interleaved rounds."""
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory(prefix="det-") as folder:
        runners = {}
        for number, (name, model) in enumerate(models.items()):
            path = Path(folder) / f"{number}.onnx"
            graph = ExportGraph(model)
            onnx_format.write(graph, path, Settings(Shape(sides_of(image_size), 1)), {})
            runners[name] = onnx_format.open_file(path, cpu, threads)
        shape = (1, next(iter(models.values())).channels, *sides_of(image_size))
        images = np.random.default_rng(0).random(shape, np.float32)
        taken = run_interleaved(runners, {name: [images] for name in models}, ROUNDS, EACH)
    return _medians(taken)


def seconds_of_files(files: Mapping[str, Path], threads: int | None = None) -> dict[str, float]:
    """Seconds per image of exported files of any format: the median of interleaved rounds.

    threads: of each runtime; None: one."""
    cpu = torch.device("cpu")
    opened = {name: open_exported(path, cpu, threads or 1) for name, path in files.items()}
    chance = torch.Generator().manual_seed(0)
    images = {
        name: [each.inputs(torch.rand(1, 3, *each.about.image_size, generator=chance))]
        for name, each in opened.items()
    }
    runners = {name: each.runner for name, each in opened.items()}
    return _medians(run_interleaved(runners, images, ROUNDS, EACH))


def _medians(taken: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, float]:
    return {
        name: statistics.median(seconds for one in rounds for seconds in one)
        for name, rounds in taken.items()
    }


def latency_rates(
    model: Detector, trace: Trace, places: Mapping[str, float], threads: int | None = None
) -> dict[str, float]:
    """Seconds per channel in and out of each deployed convolution.

    places: multiply-adds per channel in and out (``deployed_rates``)."""
    known: dict[tuple[Any, ...], float] = {}
    rates = {}
    for path, macs in places.items():
        layer, conv = trace.layers[path], model.get_submodule(path)
        kernel = int(conv.kernel_size[0])  # type: ignore[index]
        side = max(round(math.sqrt(macs / kernel**2)), 1)
        key = (len(layer.inputs), len(layer.outputs), layer.groups, kernel, side)
        if key not in known:
            known[key] = _seconds(layer, kernel, side, threads)
        per_output = 1.0 if layer.depthwise else len(layer.inputs) / layer.groups
        rates[path] = known[key] / (len(layer.outputs) * per_output)
    return rates


def _seconds(layer: Layer, kernel: int, side: int, threads: int | None) -> float:
    """The time of one convolution with an output of ``side`` x ``side``; stride 1, whatever the
    layer has: what is computed is the same."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    c_in, c_out = len(layer.inputs), len(layer.outputs)
    weight = np.ones((c_out, c_in // layer.groups, kernel, kernel), np.float32)
    shapes = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, count, side, side])
        for name, count in (("x", c_in), ("y", c_out))
    ]
    node = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[kernel] * 2,
                            pads=[kernel // 2] * 4, group=layer.groups)  # fmt: skip
    graph = helper.make_graph([node], "layer", shapes[:1], shapes[1:],
                              [numpy_helper.from_array(weight, "w")])  # fmt: skip
    version = [helper.make_opsetid("", 18)]
    file = helper.make_model(graph, opset_imports=version, ir_version=onnx.IR_VERSION_2023_5_5)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = ort.InferenceSession(
        file.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    images, taken = {"x": np.ones((1, c_in, side, side), np.float32)}, []
    for _ in range(RUNS):
        started = time.perf_counter()
        session.run(None, images)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[2:])
