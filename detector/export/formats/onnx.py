"""ONNX, run by ONNX Runtime: the format that most others can be made from.

On a CPU, float16 is for storage only: large weights are stored in half and cast back once, when the
file is loaded.  On a GPU the graph itself computes in float16, with float32 inputs and outputs.
Metadata are ``metadata_props``.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...options.formats import ExportError
from ..graph import ExportGraph
from .interface import Runner, Settings
from .lower_opset import NATIVE, lower

LARGE = 256
"""Smaller tensors (biases, constants) stay in float32: they would save nothing."""
HALF_MAX = 65504.0
REFUSALS = (
    "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel", "NoSuchFile",
    "NotImplemented", "RuntimeException",
)  # fmt: skip
"""Exceptions of ONNX Runtime for a file that it cannot load; they have no common base class."""


def write(graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]) -> None:
    """Write the graph.  Raises ExportError where a weight does not fit into float16."""
    import onnx

    with quiet():
        program = torch.onnx.export(
            graph.program(settings.shape),
            (),
            input_names=["images"],
            output_names=list(graph.outputs),
            opset_version=max(settings.opset, NATIVE),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.optimize()
        model = program.model_proto
    _tidy(model)
    _name_sides(model, settings)
    if settings.opset < NATIVE:
        lower(model, settings.opset)
    if settings.precision == "fp16" and graph.dtype == torch.float32:
        store_half(model)
    onnx.helper.set_model_props(model, dict(texts))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _tidy(model: Any) -> None:
    """Remove source locations from nodes: a tenth of a small file."""
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _name_sides(model: Any, settings: Settings) -> None:
    """Name the dynamic dimensions, as viewers show them."""
    if not settings.shape.dynamic:
        return
    sides = model.graph.input[0].type.tensor_type.shape.dim
    for side, name in zip(sides, ("batch", "", "height", "width"), strict=True):
        if name:
            side.dim_param = name
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = "batch"


def store_half(model: Any) -> None:
    """Store large float32 tensors of an ONNX model in float16, each followed by a cast, in place.
    Runtimes fold the casts when they load the file."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LARGE:
            continue
        wide, values = tensor.name, numpy_helper.to_array(tensor)
        if not np.abs(values).max() <= HALF_MAX:
            raise ExportError(f"half=True: {wide} has values beyond float16: leave it out")
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{wide}.half"))
        casts.append(
            helper.make_node("Cast", [tensor.name], [wide], f"{wide}.widen", to=TensorProto.FLOAT)
        )
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])


def read_about(path: Path) -> dict[str, str]:
    """The metadata.  Raises ExportError for a file that is not an ONNX model."""
    return {pair.key: pair.value for pair in _load(path).metadata_props}


def output_shape(path: Path) -> list[int]:
    """The shape of the first output, 0 for a free side.  Raises ExportError as ``read_about``."""
    outputs = _load(path).graph.output
    return [dim.dim_value for dim in outputs[0].type.tensor_type.shape.dim] if outputs else []


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ExportError(f"{path} is not a whole ONNX file: export it again") from error


def open_file(
    path: Path, device: torch.device, threads: int | None = None, *, name: str = "images"
) -> Runner:
    """An ONNX Runtime session on the CPU or CUDA.  name: of the input.  Raises
    ExportError."""
    import onnxruntime as ort

    providers = ["CPUExecutionProvider"]
    if device.type == "cuda":
        providers.insert(0, "CUDAExecutionProvider")
        if providers[0] not in ort.get_available_providers():
            raise ExportError(
                f"device={device}: this ONNX Runtime has no CUDA; use device=cpu, or install "
                "onnxruntime-gpu in its place"
            )
    state = ort.capi.onnxruntime_pybind11_state
    refusals = tuple(getattr(state, name) for name in REFUSALS)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except refusals as error:
        raise ExportError(f"{path}: ONNX Runtime cannot load it ({error})") from error

    def run(images: np.ndarray) -> list[np.ndarray]:
        try:
            return session.run(None, {name: images})
        except refusals as error:
            raise ExportError(f"{path}: ONNX Runtime cannot run it ({error})") from error

    return run


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters; errors are raised."""
    noisy = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")
    levels = [logger.level for logger in noisy]
    try:
        for logger in noisy:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)
