"""What the module of a format must have, and what it is told: the one interface of this room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ..graph import ExportGraph, Shape


@dataclass(frozen=True)
class Settings:
    """How a file is to be written.  shape: what it takes in.  precision: fp32 or fp16; int8
    and its kinds are made of fp32 by ``quantize.py``.  opset: of ONNX, for the formats that go
    through it."""

    shape: Shape
    precision: str = "fp32"
    opset: int = 18


class Runner(Protocol):
    """A loaded file: images [B,3,H,W] as the file wants them -> its outputs, as float32 arrays."""

    def __call__(self, images: np.ndarray) -> list[np.ndarray]: ...


class Writer(Protocol):
    """What the module of a format has."""

    def write(
        self, graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]
    ) -> None:
        """Write ``path`` (new, in a folder of its own) with ``texts`` as its metadata."""

    def read_about(self, path: Path) -> dict[str, str]:
        """The texts again; {} where the file has none.  Raises ExportError for a broken file."""

    def open_file(self, path: Path, device: torch.device, threads: int | None = None) -> Runner:
        """Load a file.  threads: None for what the runtime chooses."""
