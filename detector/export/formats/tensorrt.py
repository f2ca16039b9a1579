"""TensorRT, for NVIDIA GPUs: an engine for the GPU and TensorRT that it was built with.

Built from the ONNX graph, strongly typed: the graph and not the builder decides about float16.  Not
run by the tests of this project.
The file begins with MAGIC, the length of the metadata (8 bytes, little-endian) and the metadata as
JSON; the engine follows.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ...options.formats import ExportError
from ..graph import ExportGraph
from . import onnx
from .interface import Runner, Settings

MAGIC = b"det-trt1"


def write(graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]) -> None:
    """Build the engine.  Raises ExportError with TensorRT's reasons."""
    import tensorrt as trt

    if graph.device.type != "cuda":
        raise ExportError("format=tensorrt builds for the GPU it runs on: use device=0")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, logger)
    with tempfile.TemporaryDirectory() as folder:
        middle = Path(folder) / "graph.onnx"
        onnx.write(graph, middle, Settings(settings.shape, opset=settings.opset), {})
        if not parser.parse(middle.read_bytes()):
            reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
            raise ExportError(f"TensorRT cannot read the graph: {reasons}")
    engine = builder.build_serialized_network(network, builder.create_builder_config())
    if engine is None:
        raise ExportError("TensorRT could not build an engine: there may be too little GPU memory")
    about = json.dumps(dict(texts)).encode()
    path.write_bytes(MAGIC + len(about).to_bytes(8, "little") + about + bytes(engine))


def read_about(path: Path) -> dict[str, str]:
    """The metadata; {} for an engine of another program.  Raises ExportError."""
    return _split(path)[0]


def _split(path: Path) -> tuple[dict[str, str], bytes]:
    """Metadata and engine."""
    content = path.read_bytes()
    start = len(MAGIC) + 8
    if not content.startswith(MAGIC):
        return {}, content
    end = start + int.from_bytes(content[len(MAGIC) : start], "little")
    try:
        return json.loads(content[start:end]), content[end:]
    except ValueError as error:
        raise ExportError(f"{path} is damaged: export it again") from error


def open_file(path: Path, device: torch.device, threads: int | None = None) -> Runner:
    """The engine on its GPU; torch holds the memory.  Raises ExportError."""
    import tensorrt as trt

    if device.type != "cuda":
        raise ExportError(f"device={device}: TensorRT files run on a GPU: use device=0")
    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(_split(path)[1])
    if engine is None:
        raise ExportError(f"{path} was built for another GPU or TensorRT: export it again here")
    context = engine.create_execution_context()
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    outputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT]

    def run(images: np.ndarray) -> list[np.ndarray]:
        given = torch.from_numpy(images).to(device)
        context.set_tensor_address("images", given.data_ptr())
        held = {
            name: torch.empty(tuple(context.get_tensor_shape(name)), device=device)
            for name in outputs
        }
        for name, tensor in held.items():
            context.set_tensor_address(name, tensor.data_ptr())
        stream = torch.cuda.current_stream(device)
        context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return [held[name].cpu().numpy() for name in outputs]

    return run
