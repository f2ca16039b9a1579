"""TFLite, run by LiteRT: phones, boards and microcontrollers.

Written by litert-torch; inputs stay [B,3,H,W].  Its releases require certain versions of torch
(docs/export.md).  float16 is for storage: LiteRT widens weights when it loads the file.  Metadata
are a zip archive appended to the model, as TFLite's own metadata are: any unzip program shows them.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...options.formats import ExportError
from ..graph import ExportGraph
from .about import FIELDS
from .interface import Runner, Settings

FOLDER = "det"
"""Folder of the metadata in the zip archive."""
MODEL_SHA256 = "model_sha256"
"""The text that is the checksum of the model, which stands before the zip."""
EVERYWHERE = ".*"
"""Scope of a recipe: all operations."""


def write(graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]) -> None:
    """Convert the graph and put the texts behind it."""
    convert(graph, path, settings)
    if settings.precision == "fp16":
        rewrite(path, path, store_half)
    add_texts(path, texts)


def convert(graph: ExportGraph, path: Path, settings: Settings) -> None:
    """Write the graph in float32, without metadata."""
    import litert_torch
    from litert_torch import progress

    progress.console.quiet = True
    litert_torch.convert(graph, (graph.example(settings.shape),)).export(str(path))


def add_texts(path: Path, texts: Mapping[str, str]) -> None:
    """Append metadata to a model that has none."""
    model = hashlib.sha256(path.read_bytes()).hexdigest()
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in {**texts, MODEL_SHA256: model}.items():
            archive.writestr(f"{FOLDER}/{name}", text)


def rewrite(source: Path, path: Path, recipe: Callable[[Any], None], ranges: Any = None) -> None:
    """Quantize the float file ``source``, which has no metadata.

    recipe: configures a LiteRT quantizer.  ranges: of tensors, for static activations.
    """
    from litert_quantizer.quantizer import Quantizer

    with quiet():
        quantizer = Quantizer(source.read_bytes())
        recipe(quantizer)
        found = quantizer.quantize(
            copy.deepcopy(ranges),  # it writes into them
            enable_progress_bar=False,
            enable_progress_report=False,
        )
    path.write_bytes(found.quantized_model)


def store_half(quantizer: Any) -> None:
    """The recipe of float16: weights only."""
    from litert_quantizer.quantizer import AlgorithmName

    quantizer.add_weight_only_config(EVERYWHERE, "*", 16, algorithm_key=AlgorithmName.FLOAT_CASTING)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the quantizer; errors are raised."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        yield


def read_about(path: Path) -> dict[str, str]:
    """The metadata; {} for a file of another program.  Raises ExportError."""
    if path.read_bytes()[4:8] != b"TFL3":
        raise ExportError(f"{path} is not a TFLite file")
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        there = set(archive.namelist())
        found = [name for name in FIELDS if f"{FOLDER}/{name}" in there]
        return {name: archive.read(f"{FOLDER}/{name}").decode() for name in found}


def open_file(path: Path, device: torch.device, threads: int | None = None) -> Runner:
    """A LiteRT interpreter on the CPU.  Raises ExportError."""
    from ai_edge_litert.interpreter import Interpreter

    if device.type != "cpu":
        raise ExportError(f"device={device}: det runs TFLite files on the CPU; use device=cpu")
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"{path}: LiteRT cannot load it ({error})") from error
    source = interpreter.get_input_details()[0]["index"]
    outputs = [each["index"] for each in interpreter.get_output_details()]

    def run(images: np.ndarray) -> list[np.ndarray]:
        interpreter.set_tensor(source, images)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run
