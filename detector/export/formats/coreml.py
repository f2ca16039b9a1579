"""Core ML, for Apple's devices: a folder NAME.mlpackage.

Written by coremltools from the exported program, on macOS only, where it can be compared.  Not run
by the tests of this project (the conversion was tried on Linux).  Only raw outputs: coremltools 9
turns the integer division of choosing detections into floats.  Metadata are user-defined metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ...options.formats import ExportError
from ..graph import ExportGraph
from .interface import Runner, Settings


def write(graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]) -> None:
    """Convert the program, decomposed into operators that coremltools supports."""
    import coremltools

    half = settings.precision == "fp16"
    model = coremltools.convert(
        graph.program(settings.shape).run_decompositions(),
        outputs=[coremltools.TensorType(name) for name in graph.outputs],
        convert_to="mlprogram",
        compute_precision=getattr(coremltools.precision, "FLOAT16" if half else "FLOAT32"),
        minimum_deployment_target=coremltools.target.iOS17,
    )
    model.user_defined_metadata.update(texts)
    model.save(str(path))


def read_about(path: Path) -> dict[str, str]:
    """The user-defined metadata.  Raises ExportError for a damaged package."""
    import coremltools

    try:
        model = coremltools.models.MLModel(str(path), skip_model_load=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise ExportError(f"{path} is not a whole Core ML package ({error})") from error
    return dict(model.user_defined_metadata)


def open_file(path: Path, device: torch.device, threads: int | None = None) -> Runner:
    """The model on the device that Core ML chooses."""
    import coremltools

    model = coremltools.models.MLModel(str(path))
    names = [output.name for output in model.get_spec().description.output]

    def run(images: np.ndarray) -> list[np.ndarray]:
        found = model.predict({"images": images.astype(np.float32)})
        return [np.asarray(found[name], np.float32) for name in names]

    return run
