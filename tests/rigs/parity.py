"""Models of other projects without their files: published names, weights by formula, known outputs.

The fixtures hold names and shapes of the tensors of six published models, and what five of them
answer to one image when every tensor is filled by ``formula``.  ``make_parity_fixtures.py`` writes
them after our models have been found equal to the original implementations (``../shared/parity``,
whose weights are too large for the repository): so the outputs are those of the originals.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from foreign_files import pickled_model, save
from yolodet.detector.models.build import architecture_from, build_from
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.predictions import Predictions
from yolodet.weights.importers import ImportedWeights, import_checkpoint

FIXTURES = Path(__file__).parents[1] / "fixtures"
KEYS, OUTPUTS = FIXTURES / "parity_keys.json.gz", FIXTURES / "parity_outputs.npz"
MODELS = ("yolo26n", "yolo11n", "yolov8n", "yolov9t", "yolox_nano")
FIELDS = ("logits", "distances")


@cache
def published_keys() -> dict[str, list[tuple[str, list[int]]]]:
    """Model -> name and shape of every tensor of its published state dict (80 classes)."""
    return json.loads(gzip.decompress(KEYS.read_bytes()))


def formula(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A tensor by its name: SplitMix64 from the CRC of the name, scaled so that signals keep their
    size from layer to layer.  Exact integers up to the last step: the same on every machine."""
    count = math.prod(shape)
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(zlib.crc32(name.encode()))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    unit = ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float64) / 2**23 - 1  # -1 .. 1
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1)
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        unit = 1 + 0.3 * unit
    elif len(shape) > 1:
        unit *= math.sqrt(6 / math.prod(shape[1:]))
        if name.startswith("backbone.backbone.stem"):  # YOLOX reads 0..255
            unit /= 128
    else:
        unit *= 0.2
    return torch.from_numpy(unit.astype(np.float32)).reshape(shape)


def image(height: int = 64, width: int = 96) -> torch.Tensor:
    """[1,3,H,W] in 0..1: red grows to the right, green downwards, blue is dark; and noise."""
    right = torch.linspace(0, 1, width).expand(height, width)
    down = torch.linspace(0, 1, height)[:, None].expand(height, width)
    noise = formula("noise", (3 * height * width,)).reshape(1, 3, height, width)  # -0.2 .. 0.2
    return (torch.stack((right, down, 0.1 * right))[None] + noise).clamp(0, 1)


def write_foreign(name: str, folder: Path) -> Path:
    """A checkpoint of ``name`` as its project writes one, filled by ``formula``."""
    state = {key: formula(key, tuple(shape)) for key, shape in published_keys()[name]}
    if name.startswith("yolox"):
        return save(folder / f"{name}.pth", model=state)
    if name.startswith("yolov9"):
        torch.save(state, folder / f"{name}.pt")
        return folder / f"{name}.pt"
    names = {number: f"class{number}" for number in range(80)}
    return save(folder / f"{name}.pt", model=pickled_model(state, names), version="8.4.190")


def load(file: Path) -> tuple[Detector, ImportedWeights]:
    """The detector that a foreign file holds, in evaluation mode."""
    imported = import_checkpoint(file)
    own = architecture_from(imported.name, imported.num_classes, imported.tensors)
    detector = build_from(own).eval()
    detector.load_state_dict(imported.tensors)  # strict: every tensor, every shape
    return detector, imported


def run(detector: Detector, images: torch.Tensor) -> dict[str, Predictions]:
    with torch.inference_mode():
        return detector(images)


def known_outputs() -> dict[str, torch.Tensor]:
    """``MODEL.BRANCH.FIELD`` -> what the model of that name answers to ``image()``."""
    with np.load(OUTPUTS) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def as_arrays(name: str, found: dict[str, Predictions]) -> dict[str, Any]:
    return {f"{name}.{b}.{f}": getattr(found[b], f).numpy() for b in found for f in FIELDS}
