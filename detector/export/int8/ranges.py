"""Calibration: the images that the float network runs on, and the value ranges of its tensors.

Images are drawn from the training split by a seed and letterboxed as in validation.  They are held
as uint8, and float32 batches are made one at a time.  minmax takes the smallest and largest value;
percentile leaves out the last 0.001 %; entropy finds the range whose 8-bit histogram is nearest to
the float one (KL divergence).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....datasets.images.image import read_usable
from ....datasets.images.input_size import InputSize
from ....datasets.scan.scan import scan_split, summarize_findings
from ....datasets.sets.locate import load_dataset
from ....files.counted import counted
from ...models.gray import to_gray
from ...options.errors import UsageError
from ...options.export import ExportConfig
from ...run.log import Log
from ..graph import Shape
from ..proof.examiner import letterboxed
from .onnx_graph import LAYER, PASSTHROUGH, FloatGraph, silent

SPLIT = "train"
FEW = 100
"""Fewer images give a warning: the ranges depend on which were drawn."""
MOST = 300
"""More images change ranges by less than a step."""
PERCENTILE = 99.999
BINS = 2048
"""Of the histogram that the percentile is read from."""


def calibration_images(
    config: ExportConfig, input_size: InputSize, align: str, log: Log
) -> np.ndarray:
    """[N,3,H,W] uint8: ``fraction`` of the training images of ``data=``, at most MOST, drawn by
    ``seed=``.

    Warns below FEW.  Raises UsageError where no image is left, and what reading the data raises.
    """
    dataset = load_dataset(config.data_source, download=config.online, on_message=log.message)
    scan = scan_split(dataset, SPLIT, strict=config.allow is None)
    if config.split != SPLIT:  # the examiner has reported that split
        for line in summarize_findings(scan):
            log.warn(f"{SPLIT}: {line}")
    records = scan.records
    count = min(round(len(records) * config.fraction), MOST)
    if count == 0:
        raise UsageError(
            f"fraction={config.fraction:g} of the {len(records)} training images of "
            f"data={config.data} leaves none to calibrate with: use a larger fraction="
        )
    if count < FEW:
        log.warn(
            f"int8: calibrated with {counted(count, 'image')}; with fewer than {FEW} the ranges of "
            "rare objects may be missed"
        )
    drawn = np.random.default_rng(config.seed).permutation(len(records))[:count]
    paths = (records[i].path for i in drawn)
    pictures = read_usable(paths, log.warn, input_size.pixels)
    return letterboxed(pictures, input_size.whole, align).numpy()


class Batches(Sequence[np.ndarray]):
    """Images [N,3,H,W] uint8 as batches in the type of a file, made on access.  The last batch is
    filled up with the first images: black images would widen the ranges.  channels: of the file."""

    def __init__(self, images: np.ndarray, batch: int, *, uint8: bool, channels: int = 3) -> None:
        self.images, self.batch, self.uint8, self.channels = images, batch, uint8, channels

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch)

    def __getitem__(self, number: Any) -> Any:
        """The batch ``number``.  Raises IndexError beyond the last."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        rows = np.arange(number * self.batch, (number + 1) * self.batch) % len(self.images)
        images = self.images[rows]
        if self.channels == 1:
            images = to_gray(torch.from_numpy(images)).numpy()
        return images if self.uint8 else images.astype(np.float32) / 255


def inputs_of(
    images: np.ndarray, shape: Shape, *, uint8: bool, channels: int = 3
) -> Batches:
    """Images as batches for a file of this shape; one per batch where it is dynamic."""
    batch = 1 if shape.dynamic else shape.batch
    return Batches(images, batch, uint8=uint8, channels=channels)


def find_ranges(
    graph: FloatGraph,
    inputs: Sequence[np.ndarray],
    method: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, tuple[float, float]]:
    """Ranges of all quantizable tensors.  method: minmax, entropy or percentile."""
    import onnx
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    methods = {
        "minmax": (CalibrationMethod.MinMax, {}),
        "entropy": (CalibrationMethod.Entropy, {}),
        "percentile": (
            CalibrationMethod.Percentile,
            {"symmetric": False, "percentile": PERCENTILE, "num_bins": BINS},
        ),
    }
    kind, options = methods[method]
    with tempfile.TemporaryDirectory() as folder, silent():
        path = Path(folder) / "network.onnx"
        onnx.save(network_of(graph), path)
        watched = Path(folder) / "watched.onnx"
        calibrator = create_calibrator(
            path, [LAYER, *PASSTHROUGH], str(watched), kind, extra_options=options
        )
        calibrator.infer_session = open_session(watched)
        for done, images in enumerate(inputs, 1):
            calibrator.collect_data(_One(images))
            if on_progress is not None:
                on_progress(done, len(inputs))
        found = calibrator.compute_data()
    return {name: _ends(data.range_value) for name, data in found.items()}


def open_session(model: Path | bytes) -> Any:
    """An ONNX Runtime session on the CPU that gives the same numbers on every processor.

    Without VNNI its usual kernels add pairs of uint8 x int8 products in 16 bits, which saturate
    (docs.onnxruntime.ai, "Quantization", U8S8); here they are added in 32 bits.  Its threads sleep
    while they wait: where cores are shared, threads that spin take the time of those they wait for.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def network_of(graph: FloatGraph) -> Any:
    """The graph up to its ends, without decoding and choice of detections."""
    from onnx.utils import Extractor

    return Extractor(graph.model).extract_model([graph.model.graph.input[0].name], list(graph.ends))


def _ends(pair: tuple[Any, Any]) -> tuple[float, float]:
    low, high = (float(np.ravel(each)[0]) for each in pair)
    return min(low, 0.0), max(high, 0.0)


class _One:
    """One batch, as calibrators read it."""

    def __init__(self, images: np.ndarray) -> None:
        self._left = [images]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {"images": self._left.pop()} if self._left else None
