"""int8=: files in 8 bits, what they cost in AP and gain in size and speed.

The float network is written once, calibrated (``find_ranges``) and saved in 8 bits; the AP on
``data=`` decides which stages stay in float (``search.py``).  Each format has its Network
(``onnx.py``, ``tflite.py``).  Finally file and float copy are timed in interleaved rounds.

A checkpoint of quantization-aware training has its own ranges, and no layer stays in float
(``trained.py``).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...models.detector import Detector
from ...options.export import ExportConfig
from ...options.formats import FULL, Format
from ...run.hardware import DeviceTraits
from ...run.log import Log
from ..formats.interface import Settings
from ..formats.writers import WRITERS
from ..graph import ExportGraph
from ..proof.examiner import Examiner
from ..proof.parity import TOLERANCES, Parity
from ..proof.speed import run_interleaved
from .network import Network
from .onnx import OnnxNetwork, OpenvinoNetwork
from .ranges import Batches, inputs_of
from .search import CPU, Search
from .tflite import TfliteNetwork
from .torch_graph import TorchNetwork
from .trained import TRAINED, kept_ranges

NETWORKS: dict[str, type[Network]] = {
    "onnx": OnnxNetwork,
    "openvino": OpenvinoNetwork,
    "tflite": TfliteNetwork,
    "torch_export": TorchNetwork,
}
"""Name of a format -> how it is quantized."""
LOOKED_AT = 4
"""Batches for measuring effects and speed."""
ROUNDS, EACH = 5, 4
"""Timing rounds, and runs per file and round."""


def expected_gain(traits: DeviceTraits) -> str:
    """One line about INT8 on a processor, as measured (docs/export.md, "Which processor")."""
    has, speed = ("VNNI", "1.4x to 2.4x") if traits.int8_native else ("no VNNI", "1.1x to 1.5x")
    return (
        f"INT8 on this CPU ({traits.name}, {has}): expect 0.3x the size and {speed} the speed of "
        "fp32 (ONNX, OpenVINO, TFLite); about 1.0x for depthwise convolutions (yolox_nano)"
    )


@dataclass(frozen=True)
class Quantized:
    """A file in 8 bits: its comparison with the checkpoint, and what was done as plain data."""

    parity: Parity
    report: dict[str, Any]


class Quantizer:
    """Writes files of one checkpoint in 8 bits.

    images: [N,3,H,W] uint8 for calibration; None for int8=weights and int8=dynamic.  trained: the
    detector that simulates 8 bits, where the checkpoint keeps its ranges.
    """

    def __init__(
        self,
        config: ExportConfig,
        images: np.ndarray | None,
        examiner: Examiner,
        log: Log,
        trained: Detector | None = None,
    ) -> None:
        self.trained = trained
        self.config = config
        self.images = images
        self.examiner = examiner
        self.log = log

    def write(
        self,
        row: Format,
        graph: ExportGraph,
        path: Path,
        settings: Settings,
        texts: Mapping[str, str],
    ) -> Quantized:
        """Write ``path`` (new, in its own folder), with ``texts`` as its metadata.

        Intermediate files go to a folder below, where no name that the user chose can collide.
        """
        tolerance = replace(TOLERANCES[settings.precision], ap=self.config.max_drop)
        workshop = path.parent / "workshop"
        workshop.mkdir()
        plain = replace(settings, precision="fp32")
        kinds = NETWORKS if self.trained is None else TRAINED
        network = kinds[row.name].from_graph(graph, workshop / "float", plain, texts)
        search = Search(network, path, texts, self.examiner, tolerance, self.log)
        few: list[np.ndarray]
        if self.trained is not None:
            few = self._few(graph, settings)
            ranges = kept_ranges(network, self.trained, graph.branch, few[0])
            found = search.all_layers(ranges) | {"calibration": "of the checkpoint"}
        elif settings.precision == FULL:
            assert self.images is not None
            inputs = as_inputs(self.images, graph, settings)
            few = list(islice(inputs, LOOKED_AT))
            found = search.run(self._ranges(network, inputs), few, self.config.max_drop)
            found |= {"calibration": self.config.calibration, "images": len(self.images),
                      "seed": self.config.seed, "max_drop": self.config.max_drop}  # fmt: skip
        else:
            found = search.weights_only(settings.precision)
            few = self._few(graph, settings)
        gain = compare_cost(row, network.float_copy(), path, few)
        assert search.parity is not None
        self._tell(path, found | gain)
        return Quantized(search.parity, found | gain)

    def _few(self, graph: ExportGraph, settings: Settings) -> list[np.ndarray]:
        """Some images of the comparison, as batches of the file."""
        pictures = self.examiner.images[0][:LOOKED_AT].numpy()
        return list(as_inputs(pictures, graph, settings))

    def _ranges(self, network: Network, inputs: Sequence[np.ndarray]) -> Any:
        with self.log.progress("calibrating", len(inputs)) as update:
            return network.find_ranges(inputs, self.config.calibration, update)

    def _tell(self, path: Path, report: Mapping[str, Any]) -> None:
        """Log the gain, and which stages stay in float."""
        self.log.info(
            f"{path.name}: {report['size']:.2f}x the size of fp32, "
            f"{report['ms']:.1f} ms instead of {report['fp32_ms']:.1f}: {report['speedup']:.2f}x"
        )
        for entry in report["float"]:
            if "error" in entry:
                self.log.info(f"kept in float: {entry['stage']}, {entry['why']}")


def as_inputs(images: np.ndarray, graph: ExportGraph, settings: Settings) -> Batches:
    """Images [N,3,H,W] uint8 as batches of the file of ``graph``."""
    channels = graph.model.channels
    return inputs_of(images, settings.shape, uint8=graph.uint8, channels=channels)


def compare_cost(
    row: Format, float_copy: Path, path: Path, inputs: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Size and milliseconds per batch of a file beside its float copy."""
    writer = WRITERS[row.name]
    files = {"fp32": float_copy, "int8": path}
    runners = {name: writer.open_file(file, CPU) for name, file in files.items()}
    seconds = run_interleaved(runners, dict.fromkeys(runners, inputs), ROUNDS, EACH)
    ms = {name: [1000 * statistics.median(each) for each in mine] for name, mine in seconds.items()}
    sizes = [sum(f.stat().st_size for f in row.files(at)) for at in files.values()]
    return {
        "fp32_bytes": sizes[0],
        "bytes": sizes[1],
        "size": sizes[1] / sizes[0],
        "fp32_ms": statistics.median(ms["fp32"]),
        "ms": statistics.median(ms["int8"]),
        "speedup": statistics.median(ms["fp32"]) / statistics.median(ms["int8"]),
    }
