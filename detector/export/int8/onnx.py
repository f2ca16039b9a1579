"""Networks of ONNX and OpenVINO files, both calibrated and quantized as ONNX by ONNX Runtime.

OpenVINO gets the same scales at the inputs of layers only, so that it can fuse the most.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..formats import onnx, openvino
from ..formats.interface import Settings
from ..graph import ExportGraph
from .network import OnProgress
from .onnx_graph import FloatGraph, Ranges
from .ranges import find_ranges, network_of, open_session
from .weights import store_int8


class OnnxNetwork(FloatGraph):
    """The network of a float ONNX file."""

    @classmethod
    def from_graph(
        cls, graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]
    ) -> Self:
        """Write ONNX of the opset in ``settings``."""
        source = path.with_suffix(".onnx")
        onnx.write(graph, source, settings, texts)
        return cls(source)

    def find_ranges(
        self, inputs: Sequence[np.ndarray], method: str, on_progress: OnProgress | None = None
    ) -> Ranges:
        """Ranges of all tensors that may be quantized."""
        return find_ranges(self, inputs, method, on_progress)

    def outputs(
        self, ranges: Ranges, layers: Collection[str], inputs: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """As ONNX Runtime computes them, one array per tensor of ``ends``."""
        if layers:
            return run_all(self._cut_to_ends(self.quantized(ranges, layers)), inputs)
        return run_all(network_of(self), inputs)

    def _cut_to_ends(self, model: Any) -> Any:
        """``model`` with the ends of the network as its only outputs."""
        from onnx.utils import Extractor

        return Extractor(model).extract_model([self.model.graph.input[0].name], list(self.ends))

    def save(
        self, ranges: Ranges, layers: Collection[str], path: Path, texts: Mapping[str, str]
    ) -> None:
        """With outputs of layers quantized too."""
        self.write(self.quantized(ranges, layers), path, texts)

    def save_weights(self, path: Path, texts: Mapping[str, str], *, dynamic: bool = False) -> int:
        """From the float file as it was written.  Never dynamic: ONNX Runtime's dynamic integer
        convolution takes eight times as long as float (docs/log.md)."""
        from onnx import load

        assert not dynamic
        model = load(self.source)
        count = store_int8(model)
        self.write(model, path, texts)
        return count

    def float_copy(self) -> Path:
        """The file that it was read from."""
        return self.source

    def write(self, model: Any, path: Path, texts: Mapping[str, str]) -> None:
        """Write a ModelProto as a file of the format."""
        from onnx import checker, helper

        helper.set_model_props(model, dict(texts))
        del model.graph.value_info[:]  # intermediate shapes, which every reader infers
        checker.check_model(model)
        path.write_bytes(model.SerializeToString())


class OpenvinoNetwork(OnnxNetwork):
    """The same for OpenVINO, which is handed ONNX files."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, fused=False)

    def save(
        self, ranges: Ranges, layers: Collection[str], path: Path, texts: Mapping[str, str]
    ) -> None:
        """With inputs of layers quantized only."""
        self.write(self.quantized(ranges, layers, outputs=False), path, texts)

    def write(self, model: Any, path: Path, texts: Mapping[str, str]) -> None:
        """Convert an ONNX file that is written beside the float one."""
        middle = self.source.with_name("quantized.onnx")
        super().write(model, middle, texts)
        openvino.convert(middle, path, texts)

    def float_copy(self) -> Path:
        """Converted from the ONNX file, with its metadata."""
        path = self.source.with_suffix(".xml")
        openvino.convert(self.source, path, onnx.read_about(self.source))
        return path


def run_all(model: Any, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Values of each output of a ModelProto, flat, over all inputs."""
    session = open_session(model.SerializeToString())
    rows = [session.run(None, {"images": images}) for images in inputs]
    return [np.concatenate([each.ravel() for each in column]) for column in zip(*rows, strict=True)]
