"""The interface of a format's writer."""

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
    """How to write a file.  shape: of the input.  precision: fp32 or fp16 (``int8/`` makes 8-bit
    files from fp32).  opset: of ONNX, for formats that are made from it."""

    shape: Shape
    precision: str = "fp32"
    opset: int = 18


class Runner(Protocol):
    """A loaded file: images [B,3,H,W] in its input type -> its outputs as float32 arrays."""

    def __call__(self, images: np.ndarray) -> list[np.ndarray]: ...


class Writer(Protocol):
    """What writes, reads and runs a format: a module, or an object."""

    def write(
        self, graph: ExportGraph, path: Path, settings: Settings, texts: Mapping[str, str]
    ) -> None:
        """Write ``path`` (new, in a folder of its own) with ``texts`` as its metadata."""

    def read_about(self, path: Path) -> dict[str, str]:
        """The metadata; {} where the file has none.  Raises ExportError for a damaged file."""

    def open_file(self, path: Path, device: torch.device, threads: int | None = None) -> Runner:
        """Load a file.  threads: None for the default of the runtime."""
