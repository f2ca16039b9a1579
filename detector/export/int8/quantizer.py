"""int8=True: a file whose layers compute in 8-bit integers, and what that costs and gives.

The float network is written once, calibrated (``find_ranges``), and saved in 8 bits; the AP on
``data=`` decides what of it has to stay in float (``quantize_search.py``).  How a format does its
part is its Network: ``quantize_onnx.py``, ``quantize_tflite.py``.  In the end the file takes turns
with its float twin.

Left out: training with rounded weights, which mends what calibration can not.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...options.export import ExportConfig
from ...options.formats import FULL, Format
from ...run.hardware import DeviceTraits
from ...run.log import Log
from ..formats.interface import Settings
from ..formats.writers import WRITERS
from ..graph import ExportGraph
from ..proof.examiner import Examiner
from ..proof.parity import TOLERANCES, Parity
from ..proof.speed import take_turns
from .network import Network
from .onnx import OnnxNetwork, OpenvinoNetwork
from .ranges import inputs_of
from .search import CPU, Search
from .tflite import TfliteNetwork

NETWORKS: dict[str, type[Network]] = {
    "onnx": OnnxNetwork,
    "openvino": OpenvinoNetwork,
    "tflite": TfliteNetwork,
}
"""Name of a format -> how it is quantized."""
LOOKED_AT = 4
"""Batches on which the effect of a stage, and the speed, are measured."""
ROUNDS, EACH = 5, 4
"""Of the comparison of speed."""


def expected_gain(traits: DeviceTraits) -> str:
    """One line about INT8 on a processor, as measured (docs/export.md, "Which processor")."""
    has, speed = ("VNNI", "1.5x to 1.8x") if traits.int8_native else ("no VNNI", "1.2x to 1.5x")
    return (
        f"INT8 on this CPU ({traits.name}, {has}): expect 0.3x the size and {speed} the speed of "
        "fp32; about 1.0x for models of depthwise convolutions (yolox_nano)"
    )


@dataclass(frozen=True)
class Quantized:
    """A file in 8 bits.  parity: beside the checkpoint.  report: what was done, as plain data."""

    parity: Parity
    report: dict[str, Any]


class Quantizer:
    """Writes files in 8 bits of one checkpoint.

    images: [N,3,H,W] uint8 to calibrate with; none are needed for int8=weights and
    int8=dynamic.
    """

    def __init__(
        self, config: ExportConfig, images: np.ndarray | None, examiner: Examiner, log: Log
    ) -> None:
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
        """Write ``path`` (new, in a folder of its own), with ``texts`` as its metadata.

        All else that is written on the way lies in a folder below, since the name of ``path`` is
        the user's choice.
        """
        tolerance = replace(TOLERANCES[settings.precision], ap=self.config.max_drop)
        workshop = path.parent / "workshop"
        workshop.mkdir()
        plain = replace(settings, precision="fp32")
        network = NETWORKS[row.name].written(graph, workshop / "float", plain, texts)
        search = Search(network, path, texts, self.examiner, tolerance, self.log)
        if settings.precision == FULL:
            assert self.images is not None
            inputs = inputs_of(self.images, settings.shape, uint8=graph.uint8)
            few = list(islice(inputs, LOOKED_AT))
            found = search.run(self._ranges(network, inputs), few, self.config.max_drop)
            found |= {"calibration": self.config.calibration, "images": len(self.images),
                      "seed": self.config.seed, "max_drop": self.config.max_drop}  # fmt: skip
        else:
            found = search.weights_only(settings.precision)
            pictures = self.examiner.images[0][:LOOKED_AT].numpy()
            few = list(inputs_of(pictures, settings.shape, uint8=graph.uint8))
        gain = compare_cost(row, network.twin(), path, few)
        assert search.parity is not None
        self._tell(path, found | gain)
        return Quantized(search.parity, found | gain)

    def _ranges(self, network: Network, inputs: Sequence[np.ndarray]) -> Any:
        with self.log.progress("calibrating", len(inputs)) as update:
            return network.find_ranges(inputs, self.config.calibration, update)

    def _tell(self, path: Path, report: Mapping[str, Any]) -> None:
        """What it gave, and what was left out for the AP's sake, for people."""
        self.log.info(
            f"{path.name}: {report['size']:.2f}x the size of fp32, "
            f"{report['ms']:.1f} ms instead of {report['fp32_ms']:.1f}: {report['speedup']:.2f}x"
        )
        for entry in report["float"]:
            if "error" in entry:
                self.log.info(f"left in float: {entry['stage']}, {entry['why']}")


def compare_cost(
    row: Format, twin: Path, path: Path, inputs: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Size and milliseconds a batch of a file beside its float twin."""
    writer = WRITERS[row.name]
    runners = {name: writer.open_file(at, CPU) for name, at in (("fp32", twin), ("int8", path))}
    seconds = take_turns(runners, dict.fromkeys(runners, inputs), ROUNDS, EACH)
    ms = {name: [1000 * statistics.median(each) for each in mine] for name, mine in seconds.items()}
    sizes = [sum(f.stat().st_size for f in row.files(at)) for at in (twin, path)]
    return {
        "fp32_bytes": sizes[0],
        "bytes": sizes[1],
        "size": sizes[1] / sizes[0],
        "fp32_ms": statistics.median(ms["fp32"]),
        "ms": statistics.median(ms["int8"]),
        "speedup": statistics.median(a / b for a, b in zip(ms["fp32"], ms["int8"], strict=True)),
    }
